"""Time engines in alternating rounds, each in its own process, one computing at a time.

In a round every engine runs the prompt, and then they decode in turns of a few tokens. A shared
machine changes its speed within seconds, which then affects all engines alike.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.harness.engine_process import EngineModel, EngineProcess
from benchmarks.harness.engine_worker import TimedReply
from benchmarks.harness.timings import EngineTimings
from slmflow.console import progress_bars

# After these rounds memory, code and clock frequency no longer change.
WARM_UPS = 2

# A turn takes half a second at 30 ms per token.
TURN_TOKENS = 16

# Ids of the ordinary tokens of the bundled tokenizer.
FIRST_ID, LAST_ID = 3, 1012


@dataclass(frozen=True)
class Plan:
    """What every engine runs; lengths are in tokens."""

    prompt_lengths: tuple[int, ...]
    new_tokens: int
    rounds: int

    @property
    def context(self) -> int:
        """The longest prompt plus its new tokens."""
        return max(self.prompt_lengths) + self.new_tokens + 1


# The replies of one engine in one round: the first of the prefill, the others of decoding.
Round = list[TimedReply]


def measure(models: Mapping[str, EngineModel], plan: Plan) -> list[EngineTimings]:
    """Return the timings of each engine at each prompt length; models: by the name of the engine.

    Raises UserError if an engine's process ends.
    """
    texts = len(plan.prompt_lengths) * (2 * WARM_UPS + plan.rounds) * len(models)
    with progress_bars.item_bar() as progress:
        task = progress.add_task("speed", total=texts)
        return [
            timings
            for length in plan.prompt_lengths
            for timings in _measure_length(models, plan, length, lambda: progress.advance(task))
        ]


def _measure_length(
    models: Mapping[str, EngineModel], plan: Plan, length: int, advance: Callable[[], None]
) -> list[EngineTimings]:
    """Measure in new processes, so that memory is that of prompts of this length.

    For half of the rounds the processes start in the opposite order: the first process to start
    gets other memory than the last, and decoded up to 5 % slower.
    """
    rounds: dict[str, list[Round]] = {engine: [] for engine in models}
    descriptions: dict[str, str] = {}
    for order, numbers in zip((1, -1), _halves(plan.rounds), strict=True):
        with ExitStack() as stack:
            processes = [
                stack.enter_context(
                    EngineProcess(engine, models[engine], length + plan.new_tokens + 1)
                )
                for engine in list(models)[::order]
            ]
            descriptions |= {process.engine: process.description for process in processes}
            for number in numbers:
                turns = _rotate(processes, number)
                replies = _run_round(turns, _prompt(length, number), plan.new_tokens)
                for engine, engine_round in replies.items():
                    advance()
                    if number - numbers.start >= WARM_UPS:
                        rounds[engine].append(engine_round)
    return [_timings(name, descriptions[name], plan, length, rounds[name]) for name in models]


def _halves(rounds: int) -> tuple[range, range]:
    """Return the numbers of the rounds in each order, warm-up rounds included."""
    half = (rounds + 1) // 2
    return range(WARM_UPS + half), range(half, WARM_UPS + rounds)


def _run_round(
    processes: Sequence[EngineProcess], prompt: Sequence[int], new_tokens: int
) -> dict[str, Round]:
    replies = {process.engine: [process.prefill(prompt, new_tokens + 1)] for process in processes}
    for done in range(0, new_tokens, TURN_TOKENS):
        for process in processes:
            reply = process.decode(min(TURN_TOKENS, new_tokens - done))
            replies[process.engine].append(reply)
    return replies


def _rotate(processes: Sequence[EngineProcess], number: int) -> list[EngineProcess]:
    """Return the processes with another one first in each round."""
    first = number % len(processes)
    return [*processes[first:], *processes[:first]]


def _prompt(length: int, number: int) -> list[int]:
    """Return the prompt of a round: random ids, the same for every engine and on every run."""
    generator = random.Random(f"{length} {number}")  # noqa: S311 (repeatable, not secret)
    return [generator.randint(FIRST_ID, LAST_ID) for _ in range(length)]


def _timings(
    engine: str, description: str, plan: Plan, length: int, rounds: Sequence[Round]
) -> EngineTimings:
    replies = [reply for engine_round in rounds for reply in engine_round]
    peaks = [reply.peak_rss_bytes for reply in replies if reply.peak_rss_bytes is not None]
    return EngineTimings(
        engine=engine,
        description=description,
        prompt_tokens=length,
        new_tokens=plan.new_tokens,
        prefill_s=tuple(prefill.seconds for prefill, *_ in rounds),
        decode_s=tuple(sum(reply.seconds for reply in decoding) for _, *decoding in rounds),
        peak_rss_bytes=max(peaks, default=None),
        idle_cpu_share=sum(r.idle_cpu_s for r in replies) / sum(r.idle_s for r in replies),
    )
