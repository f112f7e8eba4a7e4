"""Turn tokens into text as they are generated, and cut the text at stop strings."""

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from tokenizers import Tokenizer

from .reasoning import ReasoningSplitter, overlap

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
    Special tokens have no text, except for those in `visible`, a mapping to their texts.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Start a text."""
        self.visible: Mapping[int, str] = {}
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
        return "".join(
            self._tokenizer.decode(list(run), skip_special_tokens=True)
            if text is None
            else "".join(text for _ in run)
            for text, run in groupby(ids, self.visible.get)
        )


class CompletionText:
    """The text of a completion: without leading white space, cut before the first stop string.

    Text that may be the start of a stop string is held back until that is decided. Reasoning is
    split off first: stop strings and white space in it have no effect.
    """

    def __init__(
        self, tokenizer: Tokenizer, stop: Sequence[str], splitter: ReasoningSplitter | None = None
    ) -> None:
        """Start a completion. splitter: None for one without reasoning."""
        self._decoder = IncrementalDecoder(tokenizer)
        self._splitter = splitter
        self._reasoning = ""
        if splitter:
            self._decoder.visible = splitter.tag_tokens
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
        if self._splitter and not self.stopped:
            last = self._splitter.flush()
            self._reasoning += last.reasoning
            self._splitter = None
            piece += self._add(last.answer)
        if self.stopped:
            return piece
        held, self._held = self._held, ""
        return piece + held

    def take_reasoning(self) -> str:
        """Return the reasoning that has become final since the last call."""
        taken, self._reasoning = self._reasoning, ""
        return taken

    def _add(self, piece: str) -> str:
        if self.stopped:
            return ""
        if self._splitter:
            split = self._splitter.push(piece)
            self._reasoning += split.reasoning
            piece = split.answer
            if self._splitter.is_answer:
                self._splitter, self._decoder.visible = None, {}
        if not self._started:
            piece = piece.lstrip()
            self._started = bool(piece)
        text = self._held + piece
        starts = [start for string in self._stop if (start := text.find(string)) >= 0]
        if starts:
            self.stopped, self._held = True, ""
            return text[: min(starts)]
        final = len(text) - overlap(text, self._stop)
        self._held = text[final:]
        return text[:final]
