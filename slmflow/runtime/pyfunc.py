"""The pyfunc that MLflow loads: answer rows of a frame, or stream one row."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from tokenizers import Tokenizer

from . import likelihood, protocol
from .chat_model import ChatModel
from .completions import ResponseShape, total_usage
from .errors import reject
from .generation.events import ReasoningPiece, TextPiece, TokenLogprob
from .generation.genai import GenaiEngine
from .generation.genai_scorer import GenaiScorer
from .generation.repeats import repeat
from .prompts.message_encoder import Message, TemplatePromptEncoder
from .readings import TokenPair
from .session import ModelSession
from .tools.calls import ToolCallPiece
from .tracing import OFF, Tracer

TRACING = "SLMFLOW_TRACING"


class GenaiPyfunc(PythonModel):
    """The pyfunc, under `llm/v1/chat` or, with `interface: prompt`, `prompt: string -> string`.

    The environment variable SLMFLOW_TRACING selects what is traced, as `serve.tracing` does.
    """

    protocol_version = protocol.PROTOCOL_VERSION

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model and the defaults that it was logged with."""
        config = context.model_config
        self._interface, self._variables = config["interface"], config.get("template") or {}
        self._tracer = Tracer(os.environ.get(TRACING, OFF))
        folder = Path(context.artifacts["model"])
        self._engine, self._prompts = GenaiEngine(folder), TemplatePromptEncoder(folder)
        self._chat_model = ChatModel(
            self._engine,
            self._prompts,
            name=config["model_name"],
            defaults={
                "max_tokens": config["max_new_tokens"],
                "temperature": config["temperature"],
                "top_p": config["top_p"],
            },
            variables=self._variables,
        )

    def open_session(
        self,
        deliver: protocol.Deliver,
        model_name: str | None = None,
        cache_mb: int | None = None,
    ) -> protocol.Session:
        """Return a session for a server; see `protocol`."""
        self._chat_model.name = model_name or self._chat_model.name
        if cache_mb is not None:
            self._engine.cache.max_bytes = cache_mb * 2**20
        return ModelSession(self._chat_model, deliver)

    def predict(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[Any]:
        """Return the completion of every row, in order.

        A dict is one row. Columns are `messages` and options of the request, or `prompt`; null
        values count as missing. Returns chat completions, or texts. Raises MlflowException (HTTP
        400) for an invalid row, before any row is answered.
        """
        requests = [self._request({**(params or {}), **row}) for row in _rows(model_input)]
        repeated = [repeat(request) for request in requests]
        completions = self._chat_model.generate(list(chain.from_iterable(repeated)))
        finished = [dataclasses.asdict(completion) for completion in completions]
        for request, completion in zip(chain.from_iterable(repeated), finished, strict=True):
            self._tracer.trace("predict", request, completion)
        if self._interface == "prompt":
            return [completion["text"] for completion in finished]
        remaining = iter(finished)
        return [self._response(list(islice(remaining, len(row)))) for row in repeated]

    def predict_stream(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Yield the completion of one row as it is generated: chat chunks, or pieces of text.

        Raises MlflowException as `predict` does, and for more than one row.
        """
        rows = _rows(model_input)
        if len(rows) != 1:
            reject(f"the input has {len(rows)} rows: a stream answers one row")
        request = self._request({**(params or {}), **rows[0]})
        if request.pop("stream", True) is not True:
            reject("stream=False: use predict for a response without a stream")
        return self._stream(request)

    def score(self, messages: Sequence[Message], answer: str) -> tuple[float, int]:
        """Return the sum of the natural log-probabilities of an answer's tokens, and their count.

        See `likelihood.encode_answer` for which tokens those are. Raises MlflowException (HTTP 400)
        for messages that are invalid or too long.
        """
        context, continuation = self.encode_answer(messages, answer)
        [(_, logprob, _)] = self.score_tokens([(context, continuation)])
        return logprob, len(continuation)

    def encode_answer(
        self, messages: Sequence[Message], answer: str
    ) -> tuple[list[int], list[int]]:
        """Return the token ids of messages and of an answer to them. Raises as `score`."""
        pair = likelihood.encode_answer(self._prompts, messages, answer, self._variables)
        self._check(pair)
        return pair

    def score_tokens(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, float, bool]]:
        """Yield the index of each pair of token ids, its log-probability, and if it is greedy.

        The log-probability is that of the continuation, and it is greedy if each of its tokens is
        the most probable. Pairs are read in batches, and come in the order in which these finish.
        Raises MlflowException (HTTP 400) for pairs that are invalid or too long, before any is
        read.
        """
        for pair in pairs:
            self._check(pair)
        return GenaiScorer(self._engine).score(pairs)

    @property
    def context_length(self) -> int:
        """The most tokens of a context and its continuation together."""
        return self._engine.context_length

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the model."""
        return self._prompts.tokenizer

    def close(self) -> None:
        """Write the queued traces."""
        self._tracer.close()

    def _check(self, pair: TokenPair) -> None:
        engine = self._engine
        likelihood.reject_unscorable(
            *pair, engine.context_length, engine.vocabulary_size, self._prompts.tokenizer
        )

    def _response(self, choices: Sequence[dict[str, Any]]) -> dict[str, Any]:
        usage = total_usage([choice["usage"] for choice in choices], n=len(choices))
        return ResponseShape(self._chat_model.name).completion(choices, usage)

    def _stream(self, request: dict[str, Any]) -> Iterator[Any]:
        shape = ResponseShape(self._chat_model.name)
        with closing(self._chat_model.stream(request)) as events:
            for event in events:
                if isinstance(event, ReasoningPiece):
                    if self._interface == "chat":
                        yield shape.chunk(
                            role="assistant", reasoning=event.text, logprobs=_fields(event.logprobs)
                        )
                    continue
                if isinstance(event, ToolCallPiece):
                    yield shape.chunk(role="assistant", tool_call=dataclasses.asdict(event))
                    continue
                if isinstance(event, TextPiece):
                    if self._interface == "prompt":
                        yield event.text
                    else:
                        logprobs = _fields(event.logprobs)
                        yield shape.chunk(event.text, role="assistant", logprobs=logprobs)
                    continue
                self._tracer.trace("predict_stream", request, dataclasses.asdict(event))
                if self._interface == "chat":
                    yield {**shape.chunk(finish_reason=event.finish_reason), "usage": event.usage}

    def _request(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the request of a row: a prompt is a user message if the model takes messages."""
        if self._interface == "chat":
            return {"messages": None, **row}
        prompt = row.pop("prompt", None)
        if self._chat_model.takes_messages:
            return {"messages": [{"role": "user", "content": prompt}], **row}
        return {"prompt": prompt, **row}


def _fields(logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(each) for each in logprobs]


def _rows(model_input: Any) -> list[dict[str, Any]]:
    """Return the rows as plain Python values, without those that are null."""
    if isinstance(model_input, pd.DataFrame):
        rows = model_input.to_dict("records")
    elif isinstance(model_input, Mapping):
        rows = [dict(model_input)]
    else:
        reject(f"the input is a {type(model_input).__name__}: give a DataFrame or a dict")
    plain = [{str(name): _plain(value) for name, value in row.items()} for row in rows]
    return [{name: value for name, value in row.items() if value is not None} for row in plain]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value
