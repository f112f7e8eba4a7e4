"""The endpoints /tokenize and /detokenize, as clients of vLLM and of llama.cpp call them."""

from collections.abc import Mapping
from typing import Any, NoReturn

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from slmflow.runtime import unknown_names
from slmflow.runtime.protocol import Event
from slmflow.serving.errors import RequestError, check_model
from slmflow.serving.http_exchange import CLIENT_CLOSED_REQUEST, final_event, read_body
from slmflow.serving.model_process import ModelProcess
from slmflow.serving.openai_requests import parse_body, parse_chat_fields

# Fields of a chat that shape its prompt.
_PROMPT_FIELDS = (
    *("messages", "add_generation_prompt", "chat_template_kwargs", "reasoning_effort"),
    *("tools", "tool_choice", "parallel_tool_calls"),
)

# What the two servers call the fields of a prompt.
_VLLM_FIELDS = ("prompt", "add_special_tokens", "return_token_strs")
_LLAMA_FIELDS = ("content", "add_special", "parse_special", "with_pieces")

# The first version of the protocol that has these requests.
_PROTOCOL_VERSION = 2


class TokenizationHandler:
    """Answer requests with the tokenizer of a model."""

    def __init__(self, model: ModelProcess, most_body_kb: int) -> None:
        """Read bodies up to `most_body_kb` kB."""
        self._model, self._most_body_kb = model, most_body_kb

    async def tokenize(self, request: Request) -> Response:
        """Answer a request to /tokenize."""
        fields = await self._read(request)
        event = await self._ask(request, "tokenize", _parse_tokenize(fields))
        if event is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        tokens = event["tokens"]
        return JSONResponse(
            {
                "tokens": tokens,
                "count": len(tokens),
                "max_model_len": event["context_length"],
                "token_strs": event.get("texts"),
            }
        )

    async def detokenize(self, request: Request) -> Response:
        """Answer a request to /detokenize."""
        fields = await self._read(request)
        tokens = fields.pop("tokens", None)
        _reject_unknown(fields, ("tokens",))
        if not isinstance(tokens, list):
            _reject("tokens", f"={tokens!r:.200}: give a list of token ids")
        event = await self._ask(request, "detokenize", {"tokens": tokens})
        if event is None:
            return Response(status_code=CLIENT_CLOSED_REQUEST)
        # vLLM's name and llama.cpp's.
        return JSONResponse({"prompt": event["text"], "content": event["text"]})

    async def _read(self, request: Request) -> dict[str, Any]:
        fields = parse_body(await read_body(request, self._most_body_kb))
        check_model(fields.pop("model", None), self._model.name, self._model.adapters)
        return fields

    async def _ask(self, request: Request, kind: str, body: Mapping[str, Any]) -> Event | None:
        if self._model.protocol_version < _PROTOCOL_VERSION:
            raise RequestError(
                f"/{kind} needs a model that a newer slmflow has logged: log the model again with "
                "`mlflow run . -e log_genai`"
            )
        return await final_event(request, self._model.submit(kind, body=body))


def _parse_tokenize(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the body of the request to the model. Raises RequestError."""
    if len(fields.keys() & {"messages", "prompt", "content"}) != 1:
        _reject("prompt", ": give either a prompt or messages")
    if "messages" in fields:
        return _parse_messages(fields)
    names = _LLAMA_FIELDS if "content" in fields else _VLLM_FIELDS
    _reject_unknown(fields, names)
    text, adds_special = fields[names[0]], _flag(fields, names[1], "prompt" in fields)
    if not isinstance(text, str):
        _reject(names[0], f"={text!r:.200}: give text")
    if not _flag(fields, "parse_special", True):
        _reject("parse_special", "=False is not supported: leave it out")
    if _flag(fields, "with_pieces", False):
        _reject("with_pieces", "=True is not supported: leave it out")
    returns_texts = _flag(fields, "return_token_strs", False)
    return {"prompt": text, "add_special_tokens": adds_special, "texts": returns_texts}


def _parse_messages(fields: dict[str, Any]) -> dict[str, Any]:
    for name in ("add_special_tokens", "continue_final_message"):
        if _flag(fields, name, False):
            _reject(name, "=True is not supported with messages: leave it out")
        fields.pop(name, None)
    returns_texts = _flag(fields, "return_token_strs", False)
    adds_prompt = _flag(fields, "add_generation_prompt", True)
    fields.pop("return_token_strs", None)
    fields.pop("add_generation_prompt", None)
    _reject_unknown(fields, _PROMPT_FIELDS)
    body = parse_chat_fields(fields).body
    return {**body, "add_generation_prompt": adds_prompt, "texts": returns_texts}


def _flag(fields: Mapping[str, Any], name: str, default: bool) -> bool:
    value = fields.get(name, default)
    if not isinstance(value, bool):
        _reject(name, f"={value!r:.200}: must be true or false")
    return value


def _reject_unknown(fields: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in fields.keys() - set(known):
        raise RequestError(unknown_names.describe(name, known), param=name, code=unknown_names.CODE)


def _reject(param: str, problem: str) -> NoReturn:
    raise RequestError(f"{param}{problem}", param=param)
