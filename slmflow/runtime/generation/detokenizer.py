"""Tokens to the text of an answer, piece by piece as they come."""

import re
from collections.abc import Sequence

from tokenizers import Tokenizer

# What a decoder writes for bytes that are no character, or not yet one.
_INCOMPLETE = "\ufffd"

# A character has four bytes at most, and a token at least one: after this many tokens, what is none
# yet will not be one. To hold it for longer would make each token cost more than the one before.
_MOST_HELD = 8

# A token of a single byte, as of the vocabularies that come from SentencePiece.
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Decoder:
    """Token ids to text; the pieces together are the text of all ids.

    A piece is held back until its bytes make whole characters, and single bytes until they end: a
    tokenizer takes them together, and one that fits nowhere makes all of them unreadable. Special
    tokens have no text.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Begin a text."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # What a token adds to a text is what it adds after the piece before it: some tokenizers
        # write the first token of a text without its leading space.
        self._before, self._after = 0, 0

    def push(self, token: int) -> str:
        """Return what a further token makes certain of the text."""
        self._ids.append(token)
        if _BYTE.fullmatch(self._tokenizer.id_to_token(token) or ""):
            return ""
        piece = self._pending()
        held = len(self._ids) - self._after
        return "" if piece.endswith(_INCOMPLETE) and held < _MOST_HELD else self._taken(piece)

    def rest(self) -> str:
        """Return what is held back, at the end of the text."""
        return self._taken(self._pending())

    def _pending(self) -> str:
        known = self._decoded(self._ids[self._before : self._after])
        return self._decoded(self._ids[self._before :])[len(known) :]

    def _taken(self, piece: str) -> str:
        if piece:
            self._before, self._after = self._after, len(self._ids)
        return piece

    def _decoded(self, ids: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
        return text


class AnswerText:
    """The text of an answer: no white space in front, cut before the first stop string.

    What may be the beginning of a stop string is held back until it is known.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        """Begin an answer."""
        self._decoder = Decoder(tokenizer)
        self._stop = stop
        self._held = ""
        self._begun = False
        self.stopped = False

    def push(self, token: int) -> str:
        """Return what a further token makes certain of the text."""
        return self._add(self._decoder.push(token))

    def rest(self) -> str:
        """Return what is held back, at the end of the answer."""
        piece = self._add(self._decoder.rest())
        if self.stopped:
            return piece
        held, self._held = self._held, ""
        return piece + held

    def _add(self, piece: str) -> str:
        if self.stopped:
            return ""
        if not self._begun:
            piece = piece.lstrip()
            self._begun = bool(piece)
        text = self._held + piece
        found = [start for string in self._stop if (start := text.find(string)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        certain = len(text) - _overlap(text, self._stop)
        self._held = text[certain:]
        return text[:certain]


def _overlap(text: str, stop: Sequence[str]) -> int:
    """Return how many characters at the end of the text may begin a stop string."""
    return max(
        (
            length
            for string in stop
            for length in range(1, min(len(string), len(text) + 1))
            if text.endswith(string[:length])
        ),
        default=0,
    )
