"""Read the prompt of one request in parts, so that other requests can decode in between."""

from typing import TYPE_CHECKING, Any

import numpy as np

from .active_request import ActiveRequest
from .prefix_cache import ALIGNMENT, Reader

if TYPE_CHECKING:
    from .genai import GenaiBatch, GenaiEngine


class RowPrefill:
    """A `Prefill` of one request. It goes on from the prefix that a kept generator has read.

    The parts end where they change no logits; see `prefix_cache.ALIGNMENT`.
    """

    def __init__(self, engine: "GenaiEngine", request: ActiveRequest) -> None:
        """Read with a generator of the engine."""
        self.requests = [request]
        self._engine = engine
        self._tokens = np.array(request.tokens_to_read, dtype=np.int32)
        self._reader: Reader[Any] = engine.open_reader(request, self._tokens)

    @property
    def unread(self) -> int:
        """The number of tokens still to be read."""
        return len(self._tokens) - len(self._reader.tokens)

    def advance(self, tokens: int) -> "GenaiBatch | None":
        """Read the next part, of about so many tokens. Return the batch after the last."""
        reader, start = self._reader, len(self._reader.tokens)
        end = self._part_end(start, tokens)
        reader.tokens = self._tokens[:0]  # unless all goes well
        self._engine.append(reader.generator, [self._tokens[start:end].tolist()])
        reader.tokens = self._tokens[:end]
        return None if self.unread else self._engine.decode_row(self.requests[0], reader)

    def close(self) -> None:
        """Keep what is read for later requests."""
        self._engine.close_reader(self.requests[0], self._reader)

    def _part_end(self, start: int, tokens: int) -> int:
        """Return where a part may end, so that the last part has at least two tokens.

        GenAI takes final pad tokens of the first part for padding.
        """
        total, pad = len(self._tokens), self._engine.pad_token
        if not self._engine.can_split(self._tokens):
            return total
        end = start + max(tokens // ALIGNMENT, 1) * ALIGNMENT
        while start == 0 and end < total and self._tokens[end - 1] == pad:
            end += ALIGNMENT
        return end if end + 2 <= total else total
