"""Score token ids with ONNX Runtime GenAI.

The runtime returns the logits of each row's last position only, so the tokens of a continuation are
read one by one, in one of two ways. Rows of a batch take one step together, but share no prefix. A
generator of one row can be rewound to the prefix that the next text shares with the last one.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..readings import Reading, TokenPair, common_length, readings_of
from .genai import GenaiEngine

# A step of one row takes as long as this many more prompt tokens than its part in a step of a
# batch: measured on CPU with a model of 135 M parameters, 9 in fp32 and 4 in int4.
_SAVED_BY_BATCH = 6

# The most that the runtime accepts. Nobody waits for a single row, as when serving.
_MAX_ROWS = 32


class GenaiScorer:
    """Scores pairs of token ids with one engine."""

    def __init__(self, engine: GenaiEngine) -> None:
        """Use a loaded engine."""
        self._engine = engine

    def score(self, pairs: Sequence[TokenPair]) -> Iterator[tuple[int, float, bool]]:
        """Yield the index of each valid pair, its log-probability, and whether it is greedy."""
        for index, (_, continuation) in enumerate(pairs):
            if not continuation:
                yield index, 0.0, True
        numbered = ((index, pair) for index, pair in enumerate(pairs) if pair[1])
        batched, rewound = self._split(readings_of(numbered))
        for batch in self._batches(batched):
            yield from self._score_batch(batch)
        yield from self._score_rewound(rewound)

    def _split(self, readings: Iterable[Reading]) -> tuple[list[Reading], list[Reading]]:
        """Return the texts to read in batches, by length, and those to rewind to, by prefix."""
        ordered = sorted(readings, key=lambda reading: reading.tokens)
        batched: list[Reading] = []
        rewound: list[Reading] = []
        after = [common_length(one.tokens, other.tokens) for one, other in pairwise(ordered)]
        # Not strict: without texts, there are no neighbours.
        for reading, *neighbours in zip(ordered, [0, *after], [*after, 0], strict=False):
            shared = min(max(neighbours), reading.first) if self._can_rewind(reading) else 0
            saved_by_batch = _SAVED_BY_BATCH * (reading.positions - 1)
            in_batch = saved_by_batch >= shared and self._can_force(reading)
            (batched if in_batch else rewound).append(reading)
        batched.sort(key=lambda reading: len(reading.tokens))
        return batched, rewound

    def _can_rewind(self, reading: Reading) -> bool:
        engine = self._engine
        return engine.can_rewind and len(reading.tokens) < engine.max_shared_length

    def _can_force(self, reading: Reading) -> bool:
        """Return whether a batch can be made to read this text: an end token would end its row."""
        return not self._engine.end_tokens.intersection(reading.tokens[reading.first + 1 :])

    def _batches(self, readings: Iterable[Reading]) -> Iterator[list[Reading]]:
        batch: list[Reading] = []
        for reading in readings:
            if batch and not self._fits([*batch, reading]):
                yield batch
                batch = []
            batch.append(reading)
        if batch:
            yield batch

    def _fits(self, batch: Sequence[Reading]) -> bool:
        return self._engine.can_batch_texts(*_prompts(batch), max_rows=_MAX_ROWS)

    def _score_batch(self, batch: Sequence[Reading]) -> Iterator[tuple[int, float, bool]]:
        """Read the contexts at once, then force one token of each continuation per step."""
        prompts, steps = _prompts(batch)
        generator = self._engine.open_generator(len(batch), max(map(len, prompts)) + steps)
        self._engine.append(generator, prompts)
        scores = [_Scores(reading) for reading in batch]
        for step in range(steps):
            logits = generator.get_logits()
            for row, each in enumerate(scores):
                if step < each.reading.positions:
                    each.add(step, logits[row, -1])
                if step == each.reading.positions - 1:
                    yield from each.results()
            if step < steps - 1:
                generator.set_logits(self._forced(logits, batch, step))
                generator.generate_next_token()

    def _forced(
        self, logits: NDArray[Any], batch: Sequence[Reading], step: int
    ) -> NDArray[np.float32]:
        """Return logits that make the next token of each text the chosen one."""
        forced = np.full_like(logits, np.finfo(np.float32).min)
        # A text that has ended is read on with any token that does not end its row.
        filler = next(n for n in range(logits.shape[-1]) if n not in self._engine.end_tokens)
        for row, reading in enumerate(batch):
            position = reading.first + 1 + step
            tokens = reading.tokens
            forced[row, -1, tokens[position] if position < len(tokens) else filler] = 0
        return forced

    def _score_rewound(self, readings: Sequence[Reading]) -> Iterator[tuple[int, float, bool]]:
        """Read texts in one row, each from where it leaves the one before."""
        if not readings:
            return
        rewindable = [each for each in readings if self._can_rewind(each)]
        longest = max((len(each.tokens) for each in rewindable), default=0)
        generator, read = None, tuple[int, ...]()
        for reading in readings:
            tokens, start = reading.tokens, 0
            if not self._can_rewind(reading):
                current = self._engine.open_generator(1, len(tokens) + 1)
            else:
                generator = generator or self._engine.open_generator(1, longest + 1)
                start = min(common_length(read, tokens), reading.first)
                if start < len(read):
                    generator.rewind_to(start)
                current, read = generator, tokens
            scores = _Scores(reading)
            self._engine.append(current, [tokens[start : reading.first + 1]])
            scores.add(0, current.get_logits()[0, -1])
            for step, token in enumerate(tokens[reading.first + 1 :], 1):
                self._engine.append(current, [[token]])
                scores.add(step, current.get_logits()[0, -1])
            yield from scores.results()


class _Scores:
    """The scores of the pairs of one reading, added up position by position."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self._logprobs = dict.fromkeys(reading.pairs, 0.0)
        self._greedy = dict.fromkeys(reading.pairs, True)

    def add(self, step: int, logits: NDArray[Any]) -> None:
        """Score the tokens after a position, counted from the first; logits: float[vocabulary]."""
        shifted = logits.astype(np.float64) - logits.max()
        normalizer, best = np.log(np.exp(shifted).sum()), int(logits.argmax())
        for number, (context, continuation) in self.reading.pairs.items():
            index = self.reading.first + step - (len(context) - 1)
            if 0 <= index < len(continuation):
                self._logprobs[number] += float(shifted[continuation[index]] - normalizer)
                self._greedy[number] &= continuation[index] == best

    def results(self) -> Iterator[tuple[int, float, bool]]:
        """Yield the number, the log-probability and the greediness of each pair."""
        for number, logprob in self._logprobs.items():
            yield number, logprob, self._greedy[number]


def _prompts(batch: Sequence[Reading]) -> tuple[list[tuple[int, ...]], int]:
    """Return what a batch reads at once, and the most positions that are scored of a text."""
    prompts = [reading.tokens[: reading.first + 1] for reading in batch]
    return prompts, max(reading.positions for reading in batch)
