"""Turn tokens into text as they are generated, and cut the text at stop strings."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

# The tokenizer writes this for bytes that are not, or not yet, a character.
_INCOMPLETE = "\ufffd"

# A character has at most four bytes and a token at least one, so bytes that are no character after
# this many tokens never will be. Holding them longer would make each token cost more than the last.
_MAX_HELD_TOKENS = 8

# A single-byte token of a SentencePiece vocabulary.
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class IncrementalDecoder:
    """Decode token ids to pieces of text; the pieces together are the text of all ids.

    A piece is held back until its bytes form whole characters, and single-byte tokens until their
    run ends: a tokenizer decodes the run together, and one invalid byte makes all of it unreadable.
    Special tokens have no text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start a text."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # A token's text is what it adds to the piece before it: some tokenizers write the first
        # token of a text without its leading space.
        self._previous_piece, self._next_piece = 0, 0

    def push(self, token: int) -> str:
        """Add a token and return the text that is now complete."""
        self._ids.append(token)
        if _BYTE.fullmatch(self._tokenizer.id_to_token(token) or ""):
            return ""
        piece = self._pending()
        held = len(self._ids) - self._next_piece
        if piece.endswith(_INCOMPLETE) and held < _MAX_HELD_TOKENS:
            return ""
        return self._release(piece)

    def flush(self) -> str:
        """Return the text held back, at the end."""
        return self._release(self._pending())

    def _pending(self) -> str:
        known = self._decode(self._ids[self._previous_piece : self._next_piece])
        return self._decode(self._ids[self._previous_piece :])[len(known) :]

    def _release(self, piece: str) -> str:
        if piece:
            self._previous_piece, self._next_piece = self._next_piece, len(self._ids)
        return piece

    def _decode(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


class CompletionText:
    """The text of a completion: without leading white space, cut before the first stop string.

    Text that may be the start of a stop string is held back until that is decided.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        """Start a completion."""
        self._decoder = IncrementalDecoder(tokenizer)
        self._stop = stop
        self._held = ""
        self._started = False
        self.stopped = False

    def push(self, token: int) -> str:
        """Add a token and return the text that is now final."""
        return self._add(self._decoder.push(token))

    def flush(self) -> str:
        """Return the text held back, at the end of the completion."""
        piece = self._add(self._decoder.flush())
        if self.stopped:
            return piece
        held, self._held = self._held, ""
        return piece + held

    def _add(self, piece: str) -> str:
        if self.stopped:
            return ""
        if not self._started:
            piece = piece.lstrip()
            self._started = bool(piece)
        text = self._held + piece
        starts = [start for string in self._stop if (start := text.find(string)) >= 0]
        if starts:
            self.stopped, self._held = True, ""
            return text[: min(starts)]
        final = len(text) - _stop_overlap(text, self._stop)
        self._held = text[final:]
        return text[:final]


def _stop_overlap(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end of the text may start a stop string."""
    return max(
        (
            length
            for string in stop
            for length in range(1, min(len(string), len(text) + 1))
            if text.endswith(string[:length])
        ),
        default=0,
    )
