"""A loaded chat model: validate and tokenize requests, and generate their completions."""

import queue
import time
from collections.abc import Generator, Mapping, Sequence
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any

from .errors import reject
from .generation.active_request import ActiveRequest, ModelTraits
from .generation.engine import Engine, PromptEncoder
from .generation.events import Completion, Deliver, Event, Piece, PrefillStarted
from .generation.options import NAMES, UNSUPPORTED, RequestOptions
from .generation.reasoning import ReasoningFormat
from .prompts import template_variables
from .prompts.message_encoder import validate_messages
from .prompts.vocabulary import reject_unknown_tokens
from .request_group import join_current_group
from .scheduling.scheduler import Scheduler

TEMPLATE_VARIABLES = "chat_template_kwargs"
"""The field of a request with variables of the chat template, as other servers name it."""

# Long enough for a thread to wake up, and short beside the time of a token.
YIELD_S = 50e-6


class ChatModel:
    """A loaded chat model. Threads may share it."""

    def __init__(
        self,
        engine: Engine,
        prompts: PromptEncoder,
        name: str,
        defaults: Mapping[str, Any],
        variables: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        """Generate with an engine.

        name: what responses call the model; it may be changed later. defaults: options for requests
        that leave them out; they override the engine's own defaults. variables: those of the chat
        template; a request may replace each.
        """
        self.name = name
        self._engine, self._prompts = engine, prompts
        self._defaults = {**engine.defaults, **defaults}
        self._variables = dict(variables)
        self._traits = ModelTraits(prompts.tokenizer, engine.end_tokens, engine.settings)
        self._scheduler = Scheduler(engine)

    @property
    def takes_messages(self) -> bool:
        """Whether the model takes chat requests; every model takes prompts."""
        return self._prompts.takes_messages

    def prepare(self, request: Mapping[str, Any], deliver: Deliver) -> ActiveRequest:
        """Return a chat request, or without `messages` one to continue its `prompt`.

        Raises as `prepare_chat`.
        """
        if "messages" in request:
            return self.prepare_chat(request, deliver)
        options = dict(request)
        return self.prepare_completion(options.pop("prompt", None), options, deliver)

    def prepare_chat(self, request: Mapping[str, Any], deliver: Deliver) -> ActiveRequest:
        """Return a chat request, ready to be submitted.

        Raises MlflowException (HTTP 400) for an invalid request.
        """
        options = dict(request)
        variables = self._template_variables(options.pop(TEMPLATE_VARIABLES, None))
        messages = validate_messages(options.pop("messages", None))
        self._reject_misplaced(options)
        prompt = self._prompts.encode_chat(messages, variables)
        return self._prepare(prompt, options, deliver, self._prompts.reasoning.format(prompt))

    def prepare_completion(
        self, prompt: Any, options: Mapping[str, Any], deliver: Deliver
    ) -> ActiveRequest:
        """Return a request to continue a text, ready to be submitted. Raises as `prepare_chat`."""
        if not isinstance(prompt, str):
            reject(f"prompt={prompt!r}: give text")
        return self._prepare(self._prompts.encode_document(prompt), options, deliver)

    def submit(self, requests: Sequence[ActiveRequest]) -> None:
        """Start requests. Each delivers its own events."""
        self._scheduler.submit(requests)

    def generate(self, requests: Sequence[Mapping[str, Any]]) -> list[Completion]:
        """Return the completions of requests as `prepare` takes them, in their order.

        Raises MlflowException for an invalid request, before any is started.
        """
        outcomes: queue.SimpleQueue[Completion | Exception] = queue.SimpleQueue()
        deliver = partial(_put_outcome, outcomes)
        active = [self.prepare(request, deliver) for request in requests]
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

    def stream(self, request: Mapping[str, Any]) -> Generator[Piece | Completion]:
        """Yield the pieces of a completion as they are generated, then the completion.

        Raises MlflowException for an invalid request, at the call. Closing the iterator early
        cancels the request.
        """
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        active = self.prepare(request, partial(_put_and_yield, events))
        return self._stream(active, events)

    def _prepare(
        self,
        prompt: list[int],
        options: Mapping[str, Any],
        deliver: Deliver,
        reasoning: ReasoningFormat | None = None,
    ) -> ActiveRequest:
        parsed = RequestOptions.parse(options, self._defaults)
        context = self._engine.context_length
        if parsed.guidance and not self._engine.supports_guidance:
            param = parsed.guidance.param
            reject(f"{param} is not supported by this flavor: leave it out", param=param)
        reject_long(prompt, context)
        reject_empty(prompt)
        reject_unknown_tokens(prompt, self._engine.vocabulary_size, self._prompts.tokenizer)
        max_new_tokens = min(parsed.max_tokens, context - len(prompt))
        if parsed.guidance:  # it constrains the completion from its first token
            reasoning = None
        return ActiveRequest(prompt, parsed, max_new_tokens, self._traits, deliver, reasoning)

    def _template_variables(self, values: Any) -> dict[str, Any]:
        """Return the variables of a request's template, with the defaults for those left out."""
        if values is not None and not isinstance(values, Mapping):
            reject(f"{TEMPLATE_VARIABLES}={values!r:.100}: must be an object")
        values = values or {}
        problems = template_variables.find_problems(values)
        unused = template_variables.find_unused(values, self._prompts.template_variables)
        for problem in chain(problems, unused):
            reject(f"{TEMPLATE_VARIABLES}: {problem}")
        return {**self._variables, **values}

    def _reject_misplaced(self, options: Mapping[str, Any]) -> None:
        """Raise MlflowException for a template variable among the options."""
        variables = template_variables.settable(self._prompts.template_variables)
        for name in options.keys() & variables - {*NAMES, *UNSUPPORTED}:
            reject(f"{name} is a variable of the chat template: give it in {TEMPLATE_VARIABLES}")

    def _stream(
        self, active: ActiveRequest, events: "queue.SimpleQueue[Event]"
    ) -> Generator[Piece | Completion]:
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


def reject_long(prompt: Sequence[int], context: int) -> None:
    """Raise MlflowException for a prompt that leaves no room for a completion."""
    if len(prompt) >= context:
        reject(
            f"the prompt has {len(prompt)} tokens, and the model's context holds "
            f"{context} with the completion: send a shorter prompt"
        )


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
    if isinstance(event, Completion | Exception):
        outcomes.put(event)
