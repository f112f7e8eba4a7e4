"""The gain of answering the rows of a frame in batches."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import truediv

from benchmarks.harness.paired_rounds import alternate
from benchmarks.server_load.in_process_model import Completion, InProcessModel


@dataclass(frozen=True)
class Batch:
    """Seconds and tokens of a frame, one value per round: all rows in one call, and row by row.

    equal_rows: rows with the same text both ways, one count per round.
    """

    rows: int
    prompt_tokens: tuple[int, ...]
    together_s: tuple[float, ...]
    together_tokens: tuple[int, ...]
    alone_s: tuple[float, ...]
    alone_tokens: tuple[int, ...]
    equal_rows: tuple[int, ...]

    @property
    def together_speeds(self) -> tuple[float, ...]:
        """Tokens per second of the whole frame, one value per round."""
        return tuple(map(truediv, self.together_tokens, self.together_s))

    @property
    def alone_speeds(self) -> tuple[float, ...]:
        """Tokens per second of the rows one at a time, one value per round."""
        return tuple(map(truediv, self.alone_tokens, self.alone_s))


def measure(model: InProcessModel, kind: str, texts: Sequence[str], rounds: int) -> Batch:
    """Time `predict` on a frame with one row per text, and row by row, in alternating order."""
    together, alone = alternate(
        f"{len(texts)} rows, {kind}",
        lambda _: _timed(lambda: model.predict(texts)),
        lambda _: _timed(lambda: [each for text in texts for each in model.predict([text])]),
        rounds,
    )
    return Batch(
        rows=len(texts),
        prompt_tokens=tuple(each.prompt_tokens for each in together[0].completions),
        together_s=tuple(timed.seconds for timed in together),
        together_tokens=tuple(timed.tokens for timed in together),
        alone_s=tuple(timed.seconds for timed in alone),
        alone_tokens=tuple(timed.tokens for timed in alone),
        equal_rows=tuple(map(_equal_rows, together, alone)),
    )


@dataclass(frozen=True)
class _Timed:
    completions: list[Completion]
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(each.tokens for each in self.completions)


def _timed(complete: Callable[[], list[Completion]]) -> _Timed:
    start = time.perf_counter()
    completions = complete()
    return _Timed(completions, time.perf_counter() - start)


def _equal_rows(together: _Timed, alone: _Timed) -> int:
    pairs = zip(together.completions, alone.completions, strict=True)
    return sum(one.text == other.text for one, other in pairs)
