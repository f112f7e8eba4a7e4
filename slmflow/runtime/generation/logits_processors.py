"""Change logits by the generation settings of a checkpoint, as transformers' processors do."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .checkpoint_settings import CheckpointSettings

Logits = NDArray[np.float32]

_NEVER = np.float32(-np.inf)


class LogitsProcessors:
    """The processors of one completion, and the tokens so far.

    transformers applies a repetition penalty between the first and the second group, so the two
    have a method each.
    """

    def __init__(
        self,
        settings: CheckpointSettings,
        prompt: Sequence[int],
        end_tokens: frozenset[int],
        max_new_tokens: int,
    ) -> None:
        """Start a completion of at most `max_new_tokens` after the token ids of `prompt`."""
        self._settings = settings
        self._tokens = list(prompt)
        self._prompt_length, self._max_new_tokens = len(prompt), max_new_tokens
        self._end_tokens = np.array(sorted(end_tokens), dtype=np.int64)
        ends = {(token,) for token in end_tokens}
        self._bad_words = tuple(
            (words, -np.inf) for words in settings.bad_words_ids if words not in ends
        )
        self._followers = _Followers(settings.no_repeat_ngram_size, prompt)

    def record(self, token: int) -> None:
        """Add a generated token."""
        self._tokens.append(token)
        self._followers.add(self._tokens)

    def add_biases(self, logits: Logits) -> None:
        """Add the biases of sequences, in place, to float32[vocabulary]."""
        self._add_biases(self._settings.sequence_bias, logits)

    def apply(self, logits: Logits) -> None:
        """Apply all other settings, in place, to float32[vocabulary]."""
        settings, generated = self._settings, len(self._tokens) - self._prompt_length
        logits[self._followers.of(self._tokens)] = _NEVER
        self._add_biases(self._bad_words, logits)
        if generated < settings.min_new_tokens or len(self._tokens) < settings.min_length:
            logits[self._end_tokens] = _NEVER
        if settings.forced_eos_token_id and generated == self._max_new_tokens - 1:
            logits[:] = _NEVER
            logits[list(settings.forced_eos_token_id)] = 0
        if settings.remove_invalid_values:
            np.nan_to_num(logits, copy=False, nan=0.0)
        self._favour_end_tokens(logits, generated)
        logits[list(settings.suppress_tokens)] = _NEVER
        if generated == 0:
            logits[list(settings.begin_suppress_tokens)] = _NEVER

    def _add_biases(self, biases: Sequence[tuple[tuple[int, ...], float]], logits: Logits) -> None:
        for (*preceding, last), bias in biases:
            if self._tokens[len(self._tokens) - len(preceding) :] == preceding:
                logits[last] += bias

    def _favour_end_tokens(self, logits: Logits, generated: int) -> None:
        if self._settings.exponential_decay_length_penalty is None:
            return
        start, factor = self._settings.exponential_decay_length_penalty
        if generated > start:
            ends = self._end_tokens[np.isfinite(logits[self._end_tokens])]
            logits[ends] += np.abs(logits[ends]) * np.float32(factor ** (generated - start) - 1)


class _Followers:
    """The tokens that have followed each sequence of `size - 1` tokens, for a size of at least 1.

    Size 0 blocks nothing.
    """

    def __init__(self, size: int, tokens: Sequence[int]) -> None:
        self._size = size
        self._followers: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for end in range(size, len(tokens) + 1):
            self.add(tokens[end - size : end])

    def add(self, tokens: Sequence[int]) -> None:
        """Record the last token as a follower of those before it."""
        if 0 < self._size <= len(tokens):
            *before, last = tokens[-self._size :]
            self._followers[tuple(before)].append(last)

    def of(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens that have followed the last tokens before."""
        if not self._size:
            return []
        return self._followers.get(tuple(tokens[len(tokens) - self._size + 1 :]), [])
