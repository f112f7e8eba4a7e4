"""A loaded chat model: validate and tokenize requests, and generate their completions."""

import queue
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from types import MappingProxyType
from typing import Any

from . import request_fields
from .errors import reject
from .generation import text_options
from .generation.active_request import ActiveRequest, ModelTraits, TextFormat
from .generation.engine import Engine, PromptEncoder
from .generation.events import Completion, Deliver, Event, Piece, PrefillStarted
from .generation.options import NAMES, RequestOptions
from .generation.text_options import Echo
from .generation.token_options import chat_options, reject_unknown_biases
from .generation.unsupported import UNSUPPORTED
from .prompts import template_variables
from .prompts.message_encoder import validate_messages
from .prompts.vocabulary import reject_unknown_tokens
from .request_fields import REASONING_EFFORT, TEMPLATE_VARIABLES
from .request_group import join_current_group
from .scheduling.scheduler import Scheduler
from .tools import declarations
from .tools.call_plan import CallPlan, plan_calls
from .tools.declarations import ToolRequest

# OpenAI's values of `reasoning_effort`.
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh")

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

    @property
    def context_length(self) -> int:
        """The most tokens of a prompt and its completion together."""
        return self._engine.context_length

    @property
    def template_variables(self) -> frozenset[str]:
        """The names of the variables that the chat template uses."""
        return self._prompts.template_variables

    @property
    def adapters(self) -> tuple[str, ...]:
        """The names of the adapters that a request may choose."""
        return self._engine.adapters

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
        prompt, tools = self._encode_chat(options)
        options = chat_options(options)
        self._reject_misplaced(options)
        guided = self._engine.supports_guidance
        plan = plan_calls(tools, self._prompts.tools, supports_guidance=guided) if tools else None
        reasoning = self._prompts.reasoning.format(prompt)
        format_ = TextFormat(reasoning=reasoning, tools=plan.calls if plan else None)
        return self._prepare(prompt, options, deliver, format_, plan=plan)

    def prepare_completion(
        self, prompt: Any, options: Mapping[str, Any], deliver: Deliver
    ) -> ActiveRequest:
        """Return a request to continue a text or token ids, ready to be submitted.

        Its options are described in `text_options`. Raises as `prepare_chat`.
        """
        options, echo = text_options.parse(options)
        tokens = self._encode_prompt(prompt)
        text = None
        if echo is not Echo.none:
            text = prompt if isinstance(prompt, str) else self._prompts.tokenizer.decode(tokens)
        format_ = TextFormat(continues_prompt=True, echo=text)
        return self._prepare(tokens, options, deliver, format_, generates=echo is not Echo.alone)

    def tokenize(self, request: Mapping[str, Any]) -> list[int]:
        """Return the token ids of `messages` or of a `prompt`, as this model would read them.

        The fields of a request are described in `protocol`. Raises as `prepare_chat`.
        """
        if "messages" in request:
            adds_prompt = request.get("add_generation_prompt", True)
            return self._encode_chat(dict(request), add_generation_prompt=adds_prompt)[0]
        if request.get("add_special_tokens", True):
            return self._prompts.encode_document(request["prompt"])
        return self._prompts.encode_text(request["prompt"])

    def token_texts(self, tokens: Sequence[int]) -> list[str]:
        """Return the texts of tokens in the vocabulary."""
        return [self._prompts.tokenizer.id_to_token(token) or "" for token in tokens]

    def detokenize(self, tokens: Sequence[int]) -> str:
        """Return the text of token ids, special tokens included. Raises as `prepare_chat`."""
        tokenizer = self._prompts.tokenizer
        for token in tokens:
            if type(token) is not int or token < 0 or tokenizer.id_to_token(token) is None:
                reject(f"tokens: {token!r:.100} is no token of this model", param="tokens")
        text: str = tokenizer.decode(tokens, skip_special_tokens=False)
        return text

    def submit(self, requests: Sequence[ActiveRequest]) -> None:
        """Start requests. Each delivers its own events."""
        for request in requests:
            request.finish_if_complete()
        self._scheduler.submit([request for request in requests if not request.finished])

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
        active.streamed = True
        return self._stream(active, events)

    def _prepare(
        self,
        prompt: list[int],
        options: Mapping[str, Any],
        deliver: Deliver,
        format_: TextFormat,
        generates: bool = True,
        plan: CallPlan | None = None,
    ) -> ActiveRequest:
        fields = request_fields.COMPLETION if format_.continues_prompt else request_fields.CHAT
        parsed = RequestOptions.parse(options, self._defaults, fields)
        if plan:
            parsed = replace(parsed, guidance=plan.guide(parsed.guidance))
        if parsed.adapter is not None and parsed.adapter not in self._engine.adapters:
            listed = ", ".join(self._engine.adapters) or "none"
            reject(
                f"adapter={parsed.adapter!r:.200} is not an adapter of this model: it has {listed}",
                param="adapter",
            )
        context = self._engine.context_length
        if parsed.guidance and not self._engine.supports_guidance:
            param = parsed.guidance.param
            reject(f"{param} is not supported by this flavor: leave it out", param=param)
        field = "prompt" if format_.continues_prompt else "messages"
        reject_long(prompt, context if generates else context + 1, field)
        reject_empty(prompt, field)
        reject_unknown_tokens(prompt, self._engine.vocabulary_size, self._prompts.tokenizer, field)
        reject_unknown_biases(parsed.logit_bias, self._engine.vocabulary_size)
        max_new_tokens = min(parsed.max_tokens, context - len(prompt)) if generates else 0
        if parsed.guidance:
            _reject_unguided(parsed, format_)
            # it constrains the completion from its first token
            format_ = replace(format_, reasoning=None)
        return ActiveRequest(prompt, parsed, max_new_tokens, self._traits, deliver, format_)

    def _encode_prompt(self, prompt: Any) -> list[int]:
        if isinstance(prompt, str):
            return self._prompts.encode_document(prompt)
        if not isinstance(prompt, list):
            reject(f"prompt={prompt!r:.100}: give text, or a list of token ids", param="prompt")
        for token in prompt:
            if type(token) is not int or token < 0:
                reject(f"prompt: {token!r:.100} is not a token id", param="prompt")
        return prompt

    def _apply_reasoning_effort(self, options: dict[str, Any]) -> None:
        """Replace `reasoning_effort` by the variable of the chat template that controls it.

        Without such a variable the option stays as it is, which only `none` may.
        """
        effort, used = options.get(REASONING_EFFORT), self._prompts.template_variables
        if REASONING_EFFORT in used and isinstance(effort, str):
            variable: dict[str, Any] = {REASONING_EFFORT: effort}
        elif "enable_thinking" in used and effort in _EFFORTS:
            variable = {"enable_thinking": effort != "none"}
        else:
            return
        given = options.get(TEMPLATE_VARIABLES) or {}
        if isinstance(given, Mapping):
            del options[REASONING_EFFORT]
            options[TEMPLATE_VARIABLES] = {**variable, **given}

    def _encode_chat(
        self, options: dict[str, Any], *, add_generation_prompt: bool = True
    ) -> tuple[list[int], ToolRequest | None]:
        """Return the token ids of a chat's prompt, and its tools.

        What shapes the prompt is taken out of the options of the request.
        """
        self._apply_reasoning_effort(options)
        variables = self._template_variables(options.pop(TEMPLATE_VARIABLES, None))
        messages = validate_messages(options.pop("messages", None))
        tools = declarations.parse(*(options.pop(name, None) for name in declarations.FIELDS))
        declared = tools.declared if tools else ()
        prompt = self._prompts.encode_chat(
            messages, variables, declared, add_generation_prompt=add_generation_prompt
        )
        return prompt, tools

    def _template_variables(self, values: Any) -> dict[str, Any]:
        """Return the variables of a request's template, with the defaults for those left out."""
        if values is not None and not isinstance(values, Mapping):
            reject(
                f"{TEMPLATE_VARIABLES}={values!r:.100}: must be an object",
                param=TEMPLATE_VARIABLES,
            )
        values = values or {}
        problems = template_variables.find_problems(values)
        unused = template_variables.find_unused(values, self._prompts.template_variables)
        for problem in chain(problems, unused):
            reject(f"{TEMPLATE_VARIABLES}: {problem}", param=TEMPLATE_VARIABLES)
        return {**self._variables, **values}

    def _reject_misplaced(self, options: Mapping[str, Any]) -> None:
        """Raise MlflowException for a template variable among the options."""
        variables = template_variables.settable(self._prompts.template_variables)
        for name in options.keys() & variables - {*NAMES, *UNSUPPORTED}:
            reject(
                f"{name} is a variable of the chat template: give it in {TEMPLATE_VARIABLES}",
                param=name,
            )

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


def _reject_unguided(options: RequestOptions, format_: TextFormat) -> None:
    """Raise MlflowException for what the runtime cannot combine with guidance."""
    param = options.guidance.param if options.guidance else None
    if options.min_p and not options.is_greedy:
        reject(f"min_p cannot be combined with {param}: leave one of them out", param="min_p")
    if format_.echo is not None and options.logprobs is not None:
        reject(f"echo cannot be combined with {param}: leave one of them out", param="echo")


def reject_long(prompt: Sequence[int], context: int, field: str | None = None) -> None:
    """Raise MlflowException for a prompt, of that request field, without room for a completion."""
    if len(prompt) >= context:
        reject(
            f"the prompt has {len(prompt)} tokens, and the model's context holds "
            f"{context} with the completion: send a shorter prompt",
            param=field,
            code="context_length_exceeded",
        )


def reject_empty(prompt: Sequence[int], field: str | None = None) -> None:
    """Raise MlflowException for a prompt, of that request field, without tokens."""
    if not prompt:
        reject("the prompt has no tokens: send some text", param=field)


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
