"""What MLflow calls: rows of a frame to answers, and one row to the chunks of an answer."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from . import scoring
from .chat_model import ChatModel
from .completions import Chunks, completion
from .errors import refuse
from .generation.genai import Genai
from .prompts.conversation import Message, TemplatePrompts
from .tracing import OFF, Tracer

TRACING = "SLMFLOW_TRACING"


class GenaiPyfunc(PythonModel):
    """The pyfunc, under `llm/v1/chat` or, with `interface: prompt`, `prompt: string -> string`.

    The environment variable SLMFLOW_TRACING says what is traced, as `serve.tracing` does.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Load the model where its files lie, and the defaults it was logged with."""
        config = context.model_config
        self._interface = config["interface"]
        self._tracer = Tracer(os.environ.get(TRACING, OFF))
        folder = Path(context.artifacts["model"])
        self._engine, self._prompts = Genai(folder), TemplatePrompts(folder)
        self.chat = ChatModel(
            self._engine,
            self._prompts,
            name=config["model_name"],
            defaults={
                "max_tokens": config["max_new_tokens"],
                "temperature": config["temperature"],
                "top_p": config["top_p"],
            },
        )

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
        rows = [{**(params or {}), **row} for row in _rows(model_input)]
        requests = [self._request(row) for row in rows]
        answers = self.chat.answers(requests)
        for request, answer in zip(requests, answers, strict=True):
            self._tracer.answered("predict", request, answer)
        if self._interface == "prompt":
            return [answer.text for answer in answers]
        return [completion(self.chat.name, answer) for answer in answers]

    def predict_stream(
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> Iterator[Any]:
        """Yield the answer to one row as it comes: chat completion chunks, or pieces of text.

        Raises MlflowException as `predict` does, and for more than one row.
        """
        rows = [{**(params or {}), **row} for row in _rows(model_input)]
        if len(rows) != 1:
            refuse(f"the input has {len(rows)} rows: a stream answers one")
        request = self._request(rows[0])
        if request.pop("stream", True) is not True:
            refuse("stream=False: predict answers without a stream")
        return self._stream(request)

    def score(self, messages: Sequence[Message], answer: str) -> tuple[float, int]:
        """Return the sum of the natural log-probabilities of an answer's tokens, and their count.

        `scoring.score` says which tokens those are.
        """
        return scoring.score(self._engine, self._prompts, messages, answer)

    def close(self) -> None:
        """Write the traces that wait to be written."""
        self._tracer.close()

    def _stream(self, request: dict[str, Any]) -> Iterator[Any]:
        chunks = Chunks(self.chat.name)
        with closing(self.chat.stream(request)) as events:
            for event in events:
                if isinstance(event, str):
                    yield event if self._interface == "prompt" else chunks.piece(event)
                    continue
                self._tracer.answered("predict_stream", request, event)
                if self._interface == "chat":
                    yield chunks.end(event)

    def _request(self, row: dict[str, Any]) -> dict[str, Any]:
        """Return the chat request of a row."""
        if self._interface == "prompt":
            content = row.pop("prompt", None)
            return {"messages": [{"role": "user", "content": content}], **row}
        return row


def _rows(model_input: Any) -> list[dict[str, Any]]:
    """Return the rows as plain Python values, without those that are null."""
    if isinstance(model_input, pd.DataFrame):
        rows = model_input.to_dict("records")
    elif isinstance(model_input, Mapping):
        rows = [dict(model_input)]
    else:
        refuse(f"the input is a {type(model_input).__name__}: give a DataFrame or a dict")
    plain = [{str(name): _plain(value) for name, value in row.items()} for row in rows]
    return [{name: value for name, value in row.items() if value is not None} for row in plain]


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value
