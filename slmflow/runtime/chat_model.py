"""A loaded chat model: validate and tokenize requests, and generate their completions."""

import queue
import time
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from typing import Any

from .errors import reject
from .generation.active_request import ActiveRequest
from .generation.engine import Engine, PromptEncoder
from .generation.events import Completion, Deliver, Event, PrefillStarted
from .generation.options import RequestOptions
from .prompts.message_encoder import validate_messages
from .request_group import join_current_group
from .scheduling.scheduler import Scheduler

# Long enough for a thread to wake up, and short beside the time of a token.
YIELD_S = 50e-6


class ChatModel:
    """A loaded chat model. Threads may share it."""

    def __init__(
        self, engine: Engine, prompts: PromptEncoder, name: str, defaults: Mapping[str, Any]
    ) -> None:
        """Generate with an engine.

        name: what responses call the model; it may be changed later. defaults: options for requests
        that leave them out; they override the engine's own defaults.
        """
        self.name = name
        self._engine, self._prompts = engine, prompts
        self._defaults = {**engine.defaults, **defaults}
        self._scheduler = Scheduler(engine)

    def prepare_chat(self, request: Mapping[str, Any], deliver: Deliver) -> ActiveRequest:
        """Return a chat request, ready to be submitted.

        Raises MlflowException (HTTP 400) for an invalid request.
        """
        options = dict(request)
        prompt = self._prompts.encode_chat(validate_messages(options.pop("messages", None)))
        return self._prepare(prompt, options, deliver)

    def prepare_completion(
        self, prompt: str, options: Mapping[str, Any], deliver: Deliver
    ) -> ActiveRequest:
        """Return a request to continue a text, ready to be submitted. Raises as `prepare_chat`."""
        return self._prepare(self._prompts.encode_document(prompt), options, deliver)

    def submit(self, requests: Sequence[ActiveRequest]) -> None:
        """Start requests. Each delivers its own events."""
        self._scheduler.submit(requests)

    def generate(self, requests: Sequence[Mapping[str, Any]]) -> list[Completion]:
        """Return the completions of chat requests, in their order.

        Raises MlflowException for an invalid request, before any is started.
        """
        outcomes: queue.SimpleQueue[Completion | Exception] = queue.SimpleQueue()
        deliver = partial(_put_outcome, outcomes)
        active = [self.prepare_chat(request, deliver) for request in requests]
        join_current_group(active)
        self.submit(active)
        try:
            for _ in active:
                if isinstance(outcome := outcomes.get(), Exception):
                    raise outcome
        finally:
            for each in active:
                each.cancel()
        return [each.completion for each in active if each.completion]

    def stream(self, request: Mapping[str, Any]) -> Generator[str | Completion]:
        """Yield the pieces of a chat completion as they are generated, then the completion.

        Raises MlflowException for an invalid request, at the call. Closing the iterator early
        cancels the request.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        active = self.prepare_chat(request, partial(_put_and_yield, events))
        return self._stream(active, events)

    def _prepare(
        self, prompt: list[int], options: Mapping[str, Any], deliver: Deliver
    ) -> ActiveRequest:
        parsed = RequestOptions.parse(options, self._defaults)
        context = self._engine.context_length
        if parsed.schema is not None and not self._engine.supports_json_schema:
            reject("response_format is not supported by this flavor: leave it out")
        if len(prompt) >= context:
            reject(
                f"the prompt has {len(prompt)} tokens, and the model's context holds "
                f"{context} with the completion: send a shorter prompt"
            )
        reject_empty(prompt)
        max_new_tokens = min(parsed.max_tokens, context - len(prompt))
        tokenizer, end_tokens = self._prompts.tokenizer, self._engine.end_tokens
        return ActiveRequest(prompt, parsed, max_new_tokens, tokenizer, end_tokens, deliver)

    def _stream(
        self, active: ActiveRequest, events: "queue.SimpleQueue[Event]"
    ) -> Generator[str | Completion]:
        self.submit([active])
        try:
            while True:
                event = events.get()
                if isinstance(event, Exception):
                    raise event
                if not isinstance(event, PrefillStarted):
                    yield event
                if isinstance(event, Completion):
                    return
        finally:
            active.cancel()


def reject_empty(prompt: Sequence[int]) -> None:
    """Raise MlflowException for a prompt without tokens."""
    if not prompt:
        reject("the prompt has no tokens: send some text")


def _put_and_yield(events: "queue.SimpleQueue[Event]", event: Event) -> None:
    """Queue an event, and let its reader run.

    ONNX Runtime GenAI holds Python's global lock while it computes. Without the pause the reader
    would get each piece one token late.
    """
    events.put(event)
    time.sleep(YIELD_S)


def _put_outcome(outcomes: "queue.SimpleQueue[Completion | Exception]", event: Event) -> None:
    if not isinstance(event, str | PrefillStarted):
        outcomes.put(event)
