"""A chat model: what it is asked, checked and made ready, and the answers it gives."""

import queue
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

from .errors import refuse
from .generation.answer import Answer, Deliver, Event, Job, Taken
from .generation.engine import Engine, Prompts
from .generation.options import Options
from .prompts.conversation import checked
from .scheduling.scheduler import Scheduler

# Long enough for a thread to wake up, and little beside the time of a token.
YIELD_S = 50e-6


class ChatModel:
    """A loaded model; threads may share it."""

    def __init__(
        self, engine: Engine, prompts: Prompts, name: str, defaults: Mapping[str, Any]
    ) -> None:
        """Answer with an engine.

        `name` is what answers call their model, and may be set; `defaults` are the options of
        requests that do not say, over the model's own. `on_asked` may be set: it is called with the
        jobs of `answers`, by the thread that asks.
        """
        self.name = name
        self.on_asked: Callable[[Sequence[Job]], None] = lambda _: None
        self._engine, self._prompts = engine, prompts
        self._defaults = {**engine.defaults, **defaults}
        self._scheduler = Scheduler(engine)

    def chat(self, request: Mapping[str, Any], deliver: Deliver) -> Job:
        """Return the job that a chat request asks for, to be submitted.

        Raises MlflowException (400 when served) for one that cannot be answered.
        """
        given = dict(request)
        prompt = self._prompts.of_chat(checked(given.pop("messages", None)))
        return self._job(prompt, Options.of(given, self._defaults), deliver)

    def completion(self, text: str, request: Mapping[str, Any], deliver: Deliver) -> Job:
        """Return the job of going on with a text, to be submitted; raises as `chat` does."""
        prompt = self._prompts.of_document(text)
        return self._job(prompt, Options.of(request, self._defaults), deliver)

    def submit(self, jobs: Sequence[Job]) -> None:
        """Have jobs answered; each tells its own listener."""
        self._scheduler.submit(jobs)

    def answers(self, requests: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Return the answers to chat requests, in their order.

        Raises MlflowException for one that cannot be answered, before any is.
        """
        told: queue.SimpleQueue[tuple[int, Answer | Exception]] = queue.SimpleQueue()
        jobs = [
            self.chat(request, partial(_put_whole, told, position))
            for position, request in enumerate(requests)
        ]
        self.on_asked(jobs)
        self.submit(jobs)
        answers: dict[int, Answer] = {}
        try:
            while len(answers) < len(jobs):
                position, event = told.get()
                if isinstance(event, Exception):
                    raise event
                answers[position] = event
        finally:
            for job in jobs:
                job.cancel()
        return [answers[position] for position in range(len(jobs))]

    def stream(self, request: Mapping[str, Any]) -> Generator[str | Answer]:
        """Yield the pieces of the answer to a chat request as they come, and at last the answer.

        Raises MlflowException for one that cannot be answered, when called. Who closes the
        iterator before its end frees the model.
        """
        told: queue.SimpleQueue[Event] = queue.SimpleQueue()
        job = self.chat(request, partial(_put_and_yield, told))
        return self._streamed(job, told)

    def _job(self, prompt: list[int], options: Options, deliver: Deliver) -> Job:
        context = self._engine.context_length
        if options.schema is not None and not self._engine.guides:
            refuse("response_format is not supported by this flavor: leave it out")
        if len(prompt) >= context:
            refuse(
                f"the prompt has {len(prompt)} tokens, and the model's context holds "
                f"{context} with the answer: send less text"
            )
        refuse_empty(prompt)
        room = min(options.max_tokens, context - len(prompt))
        return Job(prompt, options, room, self._prompts.tokenizer, self._engine.ends, deliver)

    def _streamed(self, job: Job, told: "queue.SimpleQueue[Event]") -> Generator[str | Answer]:
        self.submit([job])
        try:
            while True:
                event = told.get()
                if isinstance(event, Exception):
                    raise event
                if not isinstance(event, Taken):
                    yield event
                if isinstance(event, Answer):
                    return
        finally:
            job.cancel()


def refuse_empty(prompt: Sequence[int]) -> None:
    """Raise MlflowException for a prompt without tokens."""
    if not prompt:
        refuse("the prompt has no tokens: send some text")


def _put_and_yield(told: "queue.SimpleQueue[Event]", event: Event) -> None:
    """Pass on an event, and let its reader have the interpreter.

    ONNX Runtime GenAI keeps it while it computes: the reader would get each piece a token late.
    """
    told.put(event)
    time.sleep(YIELD_S)


def _put_whole(
    told: "queue.SimpleQueue[tuple[int, Answer | Exception]]",
    position: int,
    event: Event,
) -> None:
    """Pass on what ends an answer."""
    if not isinstance(event, str | Taken):
        told.put((position, event))
