"""Time engines in alternating rounds, each in a process of its own, one computing at a time.

In a round every engine reads the prompt, and then they generate in turns of a few tokens: a machine
that is shared changes its speed within seconds, and so slows down all of them alike.
"""

import json
import random
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO, cast

from benchmarks.harness import child
from benchmarks.harness.engine_worker import Reply
from benchmarks.harness.series import Series
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.system.child_processes import environment

# Memory, code and clock are as they stay by then.
WARM_UPS = 2

# A turn takes half a second where a token takes 30 ms.
TURN_TOKENS = 16

# The ids of the bundled tokenizer's ordinary tokens.
FIRST_ID, LAST_ID = 3, 1012


@dataclass(frozen=True)
class Plan:
    """What is asked of every engine: lengths are in tokens."""

    prompt_lengths: tuple[int, ...]
    new_tokens: int
    rounds: int

    @property
    def context(self) -> int:
        """The most tokens that a prompt and its answer have together."""
        return max(self.prompt_lengths) + self.new_tokens + 1


# An engine's replies in one round.
Round = list[Reply]


class Worker:
    """An engine's process; leaving the context ends it."""

    def __init__(self, engine: str, path: Path, context: int) -> None:
        """Start it; `path` is what the engine reads."""
        self.engine = engine
        self._log = tempfile.NamedTemporaryFile("w")  # noqa: SIM115 (see __exit__)
        self._process = subprocess.Popen(
            child.command("harness.engine_worker", engine, path, context),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment(),
            text=True,
        )

    def __enter__(self) -> Self:
        """Wait until the model is loaded."""
        self.description: str = self._receive()["description"]
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def read(self, prompt: Sequence[int], room: int) -> Reply:
        """Have it read a prompt and say the first of `room` tokens, and wait."""
        return self._ask({"read": prompt, "room": room})

    def decode(self, tokens: int) -> Reply:
        """Have it say that many tokens more, and wait."""
        return self._ask({"steps": tokens})

    def _ask(self, question: dict[str, Any]) -> Reply:
        with suppress(BrokenPipeError):  # where it has ended, what is received says so
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return Reply(**self._receive())

    def _receive(self) -> dict[str, Any]:
        if line := cast(TextIO, self._process.stdout).readline():
            message: dict[str, Any] = json.loads(line)
            return message
        status = self._process.wait()
        said = Path(self._log.name).read_text(errors="replace").strip().splitlines()
        raise UserError(
            f"{self.engine} could not be measured: its process ended with status {status}: "
            f"{said[-1] if said else 'it said nothing'}"
        )


def measure(paths: Mapping[str, Path], plan: Plan) -> list[Series]:
    """Return a series for each length of prompt and each engine; `paths` is what each reads.

    Raises UserError where an engine's process ends.
    """
    answers = len(plan.prompt_lengths) * (2 * WARM_UPS + plan.rounds) * len(paths)
    with messages.counting() as progress:
        task = progress.add_task("speed", total=answers)
        return [
            series
            for length in plan.prompt_lengths
            for series in _measure_length(paths, plan, length, lambda: progress.advance(task))
        ]


def _measure_length(
    paths: Mapping[str, Path], plan: Plan, length: int, advance: Callable[[], None]
) -> list[Series]:
    """Measure with new processes, so that memory is that of prompts of this length.

    Half of the rounds are of processes that are started in the opposite order: the first to be
    started finds other memory than the last, and was seen to decode up to 5 % slower.
    """
    timed: dict[str, list[Round]] = {engine: [] for engine in paths}
    described: dict[str, str] = {}
    for order, numbers in zip((1, -1), _halves(plan.rounds), strict=True):
        with ExitStack() as stack:
            workers = [
                stack.enter_context(Worker(engine, paths[engine], length + plan.new_tokens + 1))
                for engine in list(paths)[::order]
            ]
            described |= {worker.engine: worker.description for worker in workers}
            for number in numbers:
                turns = _rotated(workers, number)
                replies = _round(turns, _prompt(length, number), plan.new_tokens)
                for engine, one in replies.items():
                    advance()
                    if number - numbers.start >= WARM_UPS:
                        timed[engine].append(one)
    return [_series(engine, described[engine], plan, length, timed[engine]) for engine in paths]


def _halves(rounds: int) -> tuple[range, range]:
    """Return the numbers of the rounds with each order, the rounds to warm up among them."""
    half = (rounds + 1) // 2
    return range(WARM_UPS + half), range(half, WARM_UPS + rounds)


def _round(workers: Sequence[Worker], prompt: Sequence[int], new_tokens: int) -> dict[str, Round]:
    """Return every engine's replies: the first is of the prompt, the others of tokens."""
    replies = {worker.engine: [worker.read(prompt, new_tokens + 1)] for worker in workers}
    for begun in range(0, new_tokens, TURN_TOKENS):
        for worker in workers:
            turn = worker.decode(min(TURN_TOKENS, new_tokens - begun))
            replies[worker.engine].append(turn)
    return replies


def _rotated(workers: Sequence[Worker], number: int) -> list[Worker]:
    """Return the workers with another one first in each round: nobody always follows the same."""
    first = number % len(workers)
    return [*workers[first:], *workers[:first]]


def _prompt(length: int, number: int) -> list[int]:
    """Return the prompt of a round: random ids, the same for every engine and on every run."""
    generator = random.Random(f"{length} {number}")  # noqa: S311 (repeatable, not secret)
    return [generator.randint(FIRST_ID, LAST_ID) for _ in range(length)]


def _series(
    engine: str, description: str, plan: Plan, length: int, timed: Sequence[Round]
) -> Series:
    replies = [reply for one in timed for reply in one]
    peaks = [reply.peak_rss_bytes for reply in replies if reply.peak_rss_bytes is not None]
    return Series(
        engine=engine,
        description=description,
        prompt_tokens=length,
        new_tokens=plan.new_tokens,
        prefill_s=tuple(read.seconds for read, *_ in timed),
        decode_s=tuple(sum(turn.seconds for turn in turns) for _, *turns in timed),
        peak_rss_bytes=max(peaks, default=None),
        idle_cpu_share=sum(r.idle_cpu_s for r in replies) / sum(r.idle_s for r in replies),
    )
