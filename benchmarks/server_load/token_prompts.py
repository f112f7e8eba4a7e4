"""An ONNX model in this process, as the server runs it, with prompts of token ids."""

import queue
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slmflow.runtime.chat_model import ChatModel
from slmflow.runtime.generation.active_request import ActiveRequest
from slmflow.runtime.generation.events import Completion, Event
from slmflow.runtime.generation.genai import GenaiEngine
from slmflow.runtime.prompts.message_encoder import TemplatePromptEncoder

# Ids of ordinary tokens of the bundled tokenizer, which the random models have, too.
_FIRST_ID, _LAST_ID = 3, 1012

_DEFAULTS = {"max_tokens": 64, "temperature": 0.0, "top_p": 1.0}


@dataclass
class Run:
    """A request in progress, and when its tokens came and it ended, by `time.perf_counter`.

    Most tokens of a random model have no text, so the times are not those of pieces.
    """

    request: ActiveRequest
    events: "queue.SimpleQueue[Event]"
    times: list[float] = field(default_factory=list)
    ended_at: float = 0.0

    @property
    def first_s(self) -> float:
        """Seconds to the first token."""
        completion = self.request.completion
        assert completion is not None  # noqa: S101 (it has ended)
        return completion.first_token_s

    def wait(self) -> None:
        """Wait for the end. Raises the error of a request that has failed."""
        while not isinstance(event := self.events.get(), Completion):
            if isinstance(event, Exception):
                raise event
        self.ended_at = time.perf_counter()

    def record_times(self) -> None:
        """Record when each token comes from now on."""
        append_token = self.request.append_token

        def record(*arguments: Any) -> None:
            append_token(*arguments)
            self.times.append(time.perf_counter())

        setattr(self.request, "append_token", record)  # noqa: B010 (a method)


class TokenModel:
    """A loaded model. Only one thread may use it."""

    def __init__(self, folder: Path) -> None:
        """Load an ONNX folder."""
        self._engine = GenaiEngine(folder)
        self._can_rewind = self._engine.can_rewind
        encoder = TemplatePromptEncoder(folder)
        self._model = ChatModel(self._engine, encoder, "model", _DEFAULTS)
        self.context_length = self._engine.context_length

    def limit_cache(self, megabytes: int) -> None:
        """Empty the cache of earlier requests, and limit it."""
        self.wait_until_idle()
        self._engine.cache.max_bytes = 0
        self._engine.cache.reserve(0)
        self._engine.cache.max_bytes = megabytes * 2**20

    @property
    def kept_bytes(self) -> int:
        """The bytes that earlier requests take."""
        self.wait_until_idle()
        return self._engine.cache.kept_bytes

    def read_in_parts(self, in_parts: bool) -> None:
        """Read prompts in parts, or each as a whole, as slmflow once did."""
        self._engine.can_rewind = in_parts and self._can_rewind

    def text(self, tokens: int, number: int) -> list[int]:
        """Return random token ids, the same for each number."""
        numbers = random.Random(f"{tokens} {number}")  # noqa: S311 (repeatable, not secret)
        return [numbers.randint(_FIRST_ID, _LAST_ID) for _ in range(tokens)]

    def run(self, tokens: Sequence[int], new_tokens: int) -> Run:
        """Complete a text, and wait for the end."""
        run = self.start(tokens, new_tokens)
        run.wait()
        self.wait_until_idle()
        return run

    def start(self, tokens: Sequence[int], new_tokens: int, streamed: bool = False) -> Run:
        """Start to complete a text."""
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        options = {"max_tokens": new_tokens}
        request = self._model.prepare_completion(list(tokens), options, events.put)
        request.streamed = streamed
        run = Run(request, events)
        if streamed:
            run.record_times()
        self._model.submit([request])
        return run

    def wait_until_idle(self) -> None:
        """Wait for what follows the delivery of the last completion."""
        if thread := self._model._scheduler._thread:  # private: only benchmarks need it
            thread.join()
