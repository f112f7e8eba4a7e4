"""The GenAI model as MLflow runs it: this one file ships inside the model (models from code).

It stands alone: the standard library, numpy, pandas, mlflow and onnxruntime_genai; no torch, no
transformers, nothing of slmflow. It is one file because modules shipped beside it would be shared
by all models that a process loads, also those logged by another version of slmflow.
"""

import json
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from numpy.typing import NDArray

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when the runtime is imported
import onnxruntime_genai as og

Message = Mapping[str, str]
TokenIds = NDArray[np.int32]

# What an option may be: its type, the test it must pass, and that test in words.
_NUMBERS: dict[str, tuple[type, Callable[[float], bool], str]] = {
    "max_tokens": (int, lambda value: value >= 1, "a whole number, at least 1"),
    "temperature": (float, lambda value: 0 <= value <= 2, "between 0 (greedy) and 2"),
    "top_p": (float, lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (int, lambda value: value >= 0, "a whole number, at least 0 (no limit)"),
}
# Options of the chat signature that this model has no use for, each with the one value it takes.
_NEUTRAL: dict[str, Any] = {
    "n": 1,
    "stream": False,
    "frequency_penalty": 0,
    "presence_penalty": 0,
    "tools": [],
    "custom_inputs": {},
}
# A chat template drops what it does not know without a word.
_ROLES = ("system", "user", "assistant", "tool")
_MESSAGE_FIELDS = ("role", "content", "name")


@dataclass(frozen=True)
class Options:
    """How one answer is generated; temperature 0 is greedy, a `top_k` of None the model's own."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int | None = None
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any], defaults: Mapping[str, Any]) -> "Options":
        """Return the options of one request, with the defaults for what it leaves out.

        Raises MlflowException (400 when served) that names an option which is unknown, not
        supported or out of range.
        """
        accepted: dict[str, Any] = {}
        for name, value in {**defaults, **given}.items():
            if name in _NUMBERS:
                accepted[name] = _number(name, value)
            elif name == "stop":
                accepted[name] = _stop(value)
            elif name not in _NEUTRAL:
                _refuse(f"{name} is not an option: give {', '.join(_NUMBERS)} or stop")
            elif value != _NEUTRAL[name]:
                _refuse(f"{name}={value!r} is not supported: leave it out")
        return cls(**accepted)


@dataclass(frozen=True)
class Answer:
    """One answer; the counts are tokens, those of the answer with its end token."""

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int


class Runtime:
    """A model and its tokenizer; nothing in it changes, so threads may share it."""

    def __init__(self, folder: Path) -> None:
        """Load the folder that `genai_config.json` lies in."""
        config = json.loads((folder / "genai_config.json").read_text())["model"]
        self._context_length: int = config["context_length"]
        self._vocabulary: int = config["vocab_size"]
        self._model = og.Model(str(folder))
        self._tokenizer = og.Tokenizer(self._model)
        self._ends = frozenset(self._tokenizer.eos_token_ids.tolist())

    def prompt(self, messages: Sequence[Message]) -> TokenIds:
        """Return the token ids of a conversation, int32[tokens], up to where the answer begins.

        Only the chat template adds special tokens. Raises MlflowException where the template does
        not take the messages, or the context has no room for them and a token of the answer.
        """
        try:
            text = self._tokenizer.apply_chat_template(
                json.dumps(messages), add_generation_prompt=True
            )
        except RuntimeError as error:
            _refuse(f"the model's chat template does not take these messages: {error}")
        ids: TokenIds = self._tokenizer.encode(text)
        if len(ids) >= self._context_length:
            _refuse(
                f"the prompt has {len(ids)} tokens, and the model's context holds "
                f"{self._context_length} with the answer: send less text"
            )
        return ids

    def answer(self, prompt: TokenIds, options: Options) -> Answer:
        """Generate the answer to a prompt.

        Ends with "stop" at one of the model's end tokens, or once a stop string is in the text,
        which is cut before it; with "length" at `max_tokens` or where the context is full. The
        text has no special tokens, no bytes that make no character, and no white space in front,
        as MLflow's transformers flavor has it; stop strings are looked for in that text.
        """
        room = min(options.max_tokens, self._context_length - len(prompt))
        generator = self._generator(prompt, room, self._search(options))
        stream = self._tokenizer.create_stream()
        text, count, reason = "", 0, "length"
        while not generator.is_done():
            generator.generate_next_token()
            token = int(generator.get_next_tokens()[0])
            count += 1
            if token in self._ends:
                reason = "stop"
                break
            seen = len(text)
            piece = stream.decode(token)
            text += piece if text else piece.lstrip()
            if (end := _find_any(options.stop, text, seen)) is not None:
                text, reason = text[:end], "stop"
                break
        return Answer(text, reason, len(prompt), count)

    def score(self, prompt: TokenIds, answer: str) -> tuple[float, int]:
        """Return the sum of the natural log-probabilities of the answer's tokens, and their count.

        The tokens are those of the answer encoded by itself, after those of the prompt; no end
        token follows. With transformers: `apply_chat_template(messages,
        add_generation_prompt=True)`, then `encode(answer, add_special_tokens=False)`.
        """
        reference: TokenIds = self._tokenizer.encode(answer)
        if len(prompt) + len(reference) > self._context_length:
            _refuse(
                f"prompt and answer have {len(prompt)} and {len(reference)} tokens, and the "
                f"model's context holds {self._context_length}"
            )
        generator = self._generator(prompt, len(reference), {})
        total = 0.0
        # Token by token, as when it generates: a graph need not give logits for all positions.
        for token in reference:
            total += _log_probability(generator.get_logits()[0, -1], token)
            generator.append_tokens([token])
        return total, len(reference)

    def _generator(self, prompt: TokenIds, room: int, search: dict[str, Any]) -> og.Generator:
        """Return a generator that has read the prompt and has room for that many tokens more."""
        params = og.GeneratorParams(self._model)
        params.set_search_options(max_length=len(prompt) + room, **search)
        generator = og.Generator(self._model, params)
        generator.append_tokens(prompt)
        return generator

    def _search(self, options: Options) -> dict[str, Any]:
        """Return the options under the runtime's names; what they leave out is the model's own."""
        if options.temperature == 0:
            return {"do_sample": False}
        search = {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p}
        if options.top_k is not None:
            search["top_k"] = min(options.top_k, self._vocabulary)
        return search


class GenaiPyfunc(PythonModel):
    """The pyfunc, under `llm/v1/chat` or, with `interface: prompt`, `prompt: string -> string`."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model where its files lie, and the defaults it was logged with."""
        config = context.model_config
        self._runtime = Runtime(Path(context.artifacts["model"]))
        self._interface = config["interface"]
        self._model_name = config["model_name"]
        self._defaults = {
            "max_tokens": config["max_new_tokens"],
            "temperature": config["temperature"],
            "top_p": config["top_p"],
        }

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Answer every row, in order; a dict is one row, and a value that is null is not given.

        Columns are `messages` and options of the request, or `prompt`. Returns a list of chat
        completions, or of texts. Raises MlflowException (400 when served) for a request that
        cannot be answered, before any is.
        """
        requests = [self._request({**(params or {}), **row}) for row in _rows(model_input)]
        answers = [self._runtime.answer(prompt, options) for prompt, options in requests]
        if self._interface == "prompt":
            return [answer.text for answer in answers]
        return [_completion(self._model_name, answer) for answer in answers]

    def score(self, messages: Sequence[Message], answer: str) -> tuple[float, int]:
        """Return the sum of the natural log-probabilities of an answer's tokens, and their count.

        `Runtime.score` says which tokens those are.
        """
        return self._runtime.score(self._runtime.prompt(_conversation(messages)), answer)

    def _request(self, given: dict[str, Any]) -> tuple[TokenIds, Options]:
        if self._interface == "prompt":
            messages: Any = [{"role": "user", "content": given.pop("prompt", None)}]
        else:
            messages = given.pop("messages", None)
        options = Options.of(given, self._defaults)
        return self._runtime.prompt(_conversation(messages)), options


def _rows(model_input: Any) -> list[dict[str, Any]]:
    """Return the rows as plain Python values, without those that are null."""
    if isinstance(model_input, pd.DataFrame):
        rows = model_input.to_dict("records")
    elif isinstance(model_input, Mapping):
        rows = [dict(model_input)]
    else:
        _refuse(f"the input is a {type(model_input).__name__}: give a DataFrame or a dict")
    plain = [{str(name): _plain(value) for name, value in row.items()} for row in rows]
    return [{name: value for name, value in row.items() if value is not None} for row in plain]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _conversation(messages: Any) -> list[Message]:
    if not isinstance(messages, list) or not messages:
        _refuse(f"messages={messages!r}: give a list of at least one message")
    return [_message(message) for message in messages]


def _message(message: Any) -> Message:
    """Return what the chat template gets to see of a message."""
    if not isinstance(message, Mapping):
        _refuse(f"message {message!r}: give an object with role and content")
    given = {name: value for name, value in message.items() if value is not None}
    for name in ("role", "content"):
        if not isinstance(given.get(name), str):
            _refuse(f"{name}={given.get(name)!r} in a message: give text")
        if name == "role" and given[name] not in _ROLES:
            _refuse(f"role={given[name]!r} in a message: give one of {', '.join(_ROLES)}")
        if "\0" in given[name]:
            _refuse(f"{name} of a message has a NUL character: the tokenizer would end there")
    if unknown := sorted(given.keys() - _MESSAGE_FIELDS):
        _refuse(f"{unknown[0]} in a message is not supported: give {', '.join(_MESSAGE_FIELDS)}")
    return given


def _number(name: str, value: Any) -> float:
    kind, accepts, wanted = _NUMBERS[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or kind(value) != value or not accepts(value):
        _refuse(f"{name}={value!r}: must be {wanted}")
    return kind(value)  # type: ignore[no-any-return]


def _stop(value: Any) -> tuple[str, ...]:
    stop = [value] if isinstance(value, str) else value
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        _refuse(f"stop={value!r}: must be a text or a list of texts, none of them empty")
    return tuple(stop)


def _find_any(wanted: Sequence[str], text: str, seen: int) -> int | None:
    """Return where the first of the wanted strings begins, if it ends after index `seen`."""
    found = [text.find(string, max(0, seen - len(string) + 1)) for string in wanted]
    return min((start for start in found if start >= 0), default=None)


def _log_probability(logits: NDArray[Any], token: int) -> float:
    """Return the natural logarithm of the softmax of `logits`, float[vocabulary], at `token`."""
    shifted = logits.astype(np.float64) - logits.max()
    return float(shifted[token] - np.log(np.exp(shifted).sum()))


def _completion(model: str, answer: Answer) -> dict[str, Any]:
    return {
        "id": str(uuid.uuid4()),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": answer.text},
                "finish_reason": answer.finish_reason,
            }
        ],
        "usage": {
            "prompt_tokens": answer.prompt_tokens,
            "completion_tokens": answer.completion_tokens,
            "total_tokens": answer.prompt_tokens + answer.completion_tokens,
        },
    }


def _refuse(message: str) -> NoReturn:
    raise MlflowException.invalid_parameter_value(message)


mlflow.models.set_model(GenaiPyfunc())
