"""What a frame gains when its rows are answered together."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import truediv

from benchmarks.harness.paired_turns import alternate
from benchmarks.server_load.in_process_model import LoadedModel, Said


@dataclass(frozen=True)
class Batch:
    """Seconds and tokens of a frame, one per round: its rows together, and one at a time.

    equal_rows: rows whose text was the same both ways, one per round.
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
        """Tokens per second of the whole frame, one per round."""
        return tuple(map(truediv, self.together_tokens, self.together_s))

    @property
    def alone_speeds(self) -> tuple[float, ...]:
        """Tokens per second of the rows one at a time, one per round."""
        return tuple(map(truediv, self.alone_tokens, self.alone_s))


def measure(model: LoadedModel, kind: str, texts: Sequence[str], rounds: int) -> Batch:
    """Time `predict` on a frame with a row for each text, and row by row, in turns."""
    together, alone = alternate(
        f"{len(texts)} rows, {kind}",
        lambda _: _timed(lambda: model.predict(texts)),
        lambda _: _timed(lambda: [said for text in texts for said in model.predict([text])]),
        rounds,
    )
    return Batch(
        rows=len(texts),
        prompt_tokens=tuple(said.prompt_tokens for said in together[0].answers),
        together_s=tuple(timed.seconds for timed in together),
        together_tokens=tuple(timed.tokens for timed in together),
        alone_s=tuple(timed.seconds for timed in alone),
        alone_tokens=tuple(timed.tokens for timed in alone),
        equal_rows=tuple(map(_equal_rows, together, alone)),
    )


@dataclass(frozen=True)
class _Timed:
    answers: list[Said]
    seconds: float

    @property
    def tokens(self) -> int:
        return sum(said.tokens for said in self.answers)


def _timed(answers: Callable[[], list[Said]]) -> _Timed:
    began = time.perf_counter()
    said = answers()
    return _Timed(said, time.perf_counter() - began)


def _equal_rows(one: _Timed, other: _Timed) -> int:
    return sum(a.text == b.text for a, b in zip(one.answers, other.answers, strict=True))
