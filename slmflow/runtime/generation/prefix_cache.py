"""Keep the generators of earlier requests: their KV caches save reading a shared prefix again.

A generator belongs to one request at a time, and its KV cache cannot be copied. So of requests with
the same prefix that run at once, one can continue a kept generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 16
"""Prompts are read in parts that end at multiples of this: the kernels round single rows at the end
of a part in another way, so that other parts would give other logits."""

LEAST_KEPT = 4 * ALIGNMENT
"""Shorter texts are not kept: they take more memory than time."""

# A generator that saves less is left to its own conversation.
_LEAST_SAVED = 2 * ALIGNMENT

G = TypeVar("G")


@dataclass
class Reader(Generic[G]):
    """A generator of one row, and the token ids it has read; those it has generated do not count.

    capacity: the tokens that its KV cache has room for; size: that of the KV cache in bytes;
    adapter: name of the one that it uses, None for the base model.
    """

    generator: G
    capacity: int
    size: int
    tokens: NDArray[np.int32]
    adapter: str | None = None

    @property
    def reusable(self) -> int:
        """How many of the tokens another request may reuse."""
        return _aligned(len(self.tokens))


class PrefixCache(Generic[G]):
    """Generators of earlier requests, up to a number of bytes; the least recently used goes first.

    The bytes of running generators count, too, but those are never ended. Only one thread may use a
    cache, except to set `max_bytes`.
    """

    def __init__(self, max_bytes: int) -> None:
        """Keep up to `max_bytes` of KV caches; 0 keeps none."""
        self.max_bytes = max_bytes
        self.version = 0
        self._kept: list[Reader[G]] = []
        self._running_bytes = 0

    @property
    def kept_bytes(self) -> int:
        """The bytes of the KV caches that no request uses."""
        return sum(each.size for each in self._kept)

    def shared_length(self, tokens: Sequence[int], adapter: str | None = None) -> int:
        """Return how many tokens of a text need not be read, if a kept generator has room."""
        best = self._find_best(_array(tokens), 0, adapter)
        return best[1] if best else 0

    def take(
        self, tokens: Sequence[int] | NDArray[np.int32], length: int, adapter: str | None = None
    ) -> tuple[Reader[G], int] | None:
        """Return the generator to continue and how many of the tokens to keep, if there is one.

        length: the tokens that it must have room for; adapter: which it must use. It may have read
        other tokens after those.
        """
        wanted = _array(tokens)
        best = self._find_best(wanted, length, adapter)
        if best is None:
            # Those that are only too small would never be found again.
            self._remove(
                [
                    each
                    for each in self._kept
                    if each.adapter == adapter and _is_start(each.tokens, wanted)
                ]
            )
            return None
        self._remove([best[0]])
        self._running_bytes += best[0].size
        return best

    def reserve(self, size: int) -> None:
        """Count a new generator of `size` bytes as running, and make room for it."""
        self._running_bytes += size
        self._evict()

    def release(self, size: int) -> None:
        """Count a running generator of `size` bytes as ended."""
        self._running_bytes -= size

    def keep(self, reader: Reader[G]) -> None:
        """Keep a generator that was running."""
        self._running_bytes -= reader.size
        if reader.reusable >= LEAST_KEPT:
            self._kept.append(reader)
            self.version += 1
        self._evict()

    def _find_best(
        self, tokens: NDArray[np.int32], length: int, adapter: str | None
    ) -> tuple[Reader[G], int] | None:
        """Return the generator that saves more tokens than it loses, and the shared length."""
        best, best_gain, best_shared = None, _LEAST_SAVED - 1, 0
        for reader in self._kept:
            if reader.adapter != adapter:  # it has read the text with other weights
                continue
            shared, gain = _shared(reader.tokens, tokens)
            if reader.capacity >= length and gain > best_gain:
                best, best_gain, best_shared = reader, gain, shared
        return (best, best_shared) if best else None

    def _evict(self) -> None:
        excess = self._running_bytes + self.kept_bytes - self.max_bytes
        evicted = []
        for reader in self._kept:
            if excess <= 0:
                break
            evicted.append(reader)
            excess -= reader.size
        self._remove(evicted)

    def _remove(self, readers: Sequence[Reader[G]]) -> None:
        removed = {id(reader) for reader in readers}
        self._kept = [each for each in self._kept if id(each) not in removed]
        self.version += bool(removed)


def saved_tokens(read: Sequence[int], tokens: Sequence[int]) -> int:
    """Return how many tokens of a text need not be read by a generator that has read another."""
    shared, gain = _shared(_array(read), _array(tokens))
    return shared if gain >= _LEAST_SAVED and _aligned(len(read)) >= LEAST_KEPT else 0


def _array(tokens: Sequence[int] | NDArray[np.int32]) -> NDArray[np.int32]:
    return np.asarray(tokens, dtype=np.int32)


def _aligned(length: int) -> int:
    return length // ALIGNMENT * ALIGNMENT


def _shared(read: NDArray[np.int32], tokens: NDArray[np.int32]) -> tuple[int, int]:
    """Return how many of the tokens read a text can keep, and these less those that it drops.

    A text reads at least its last two tokens.
    """
    reusable = _aligned(len(read))
    length = max(0, min(reusable, len(tokens) - 2))
    different = np.flatnonzero(read[:length] != tokens[:length])
    shared = _aligned(int(different[0]) if len(different) else length)
    return shared, shared - (reusable - shared)


def _is_start(read: NDArray[np.int32], tokens: NDArray[np.int32]) -> bool:
    shared, gain = _shared(read, tokens)
    return shared == gain
