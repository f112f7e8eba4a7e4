"""Turn tokens into text as they are generated, and cut the text at stop strings."""

import math
import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from tokenizers import Tokenizer

from ..tools.calls import ToolCallPiece
from ..tools.parser import ParsedText, ToolCallParser
from .reasoning import ReasoningSplitter, overlap

# The tokenizer writes this for bytes that are not, or not yet, a character.
_INCOMPLETE = "\ufffd"

# A character has at most four bytes and a token at least one, so bytes that are no character after
# this many tokens never will be. Holding them longer would make each token cost more than the last.
_MAX_HELD_TOKENS = 8

# Enough of a prompt to decode what follows: more than one character, or one word, has.
_CONTEXT_TOKENS = 16

# A single-byte token of a SentencePiece vocabulary.
_BYTE = re.compile("<0x[0-9A-F]{2}>")


class IncrementalDecoder:
    """Decode token ids to pieces of text; the pieces together are the text of all ids.

    A piece is held back until its bytes form whole characters, and single-byte tokens until their
    run ends: a tokenizer decodes the run together, and one invalid byte makes all of it unreadable.
    Special tokens have no text, except for those in `visible`, a mapping to their texts.
    """

    def __init__(self, tokenizer: Tokenizer, context: Sequence[int] = ()) -> None:
        """Start a text, which continues that of the ids in `context`."""
        self.visible: Mapping[int, str] = {}
        self._tokenizer = tokenizer
        self._ids = list(context[-_CONTEXT_TOKENS:])
        # A token's text is what it adds to the piece before it: some tokenizers write the first
        # token of a text without its leading space.
        self._previous_piece, self._next_piece = 0, len(self._ids)

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
    """The text of a completion, cut before the first stop string.

    Text that may be the start of a stop string is held back until that is decided. Reasoning is
    split off first, then tool calls: stop strings and white space in them have no effect. An answer
    has no leading white space; a text that continues its prompt is left as it is.

    decoded: the number of characters decoded so far, reasoning and dropped white space included;
    released: how many of them are no longer held back; answer_start: at which of them the answer
    begins, infinite as long as that is unknown.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        stop: Sequence[str],
        splitter: ReasoningSplitter | None = None,
        context: Sequence[int] | None = None,
        calls: ToolCallParser | None = None,
    ) -> None:
        """Start a completion.

        splitter: None for one without reasoning. context: the token ids of the prompt that the text
        continues; None for an answer. calls: None for one without tools.
        """
        self._decoder = IncrementalDecoder(tokenizer, context or ())
        self._splitter = splitter
        self._reasoning = ""
        self._parser = calls
        self._calls: list[ToolCallPiece] = []
        call_tokens = calls.format.special if calls else {}
        reasoning_tokens = splitter.tag_tokens if splitter else {}
        self._decoder.visible = {**reasoning_tokens, **call_tokens}
        self._visible_in_answer = call_tokens
        self._stop = stop
        self._held = ""
        self._started = context is not None
        self._cut: int | None = None
        self.decoded = 0
        self.answer_start = math.inf if splitter else 0.0

    @property
    def stopped(self) -> bool:
        """Whether a stop string, or the only call that was allowed, has ended the text."""
        return self._cut is not None or bool(self._parser and self._parser.is_done)

    @property
    def released(self) -> int:
        """How many of the decoded characters are not held back; those after a stop string are."""
        if self._cut is not None:
            return self._cut
        held = len(self._held)
        held += self._splitter.held_length if self._splitter else 0
        held += self._parser.held_length if self._parser else 0
        return self.decoded - held

    def push(self, token: int) -> str:
        """Add a token and return the text that is now final."""
        return self._add(self._decoder.push(token))

    def flush(self) -> str:
        """Return the text held back, at the end of the completion."""
        piece = self._add(self._decoder.flush())
        if self._splitter and not self.stopped:
            last = self._splitter.flush()
            self._reasoning += last.reasoning
            self._splitter, self.answer_start = None, self.decoded - len(last.answer)
            piece += self._add_answer(last.answer)
        if self._parser and not self.stopped:
            piece += self._cut_at_stop(self._keep_calls(self._parser.flush()))
        if self.stopped:
            return piece
        held, self._held = self._held, ""
        return piece + held

    def take_reasoning(self) -> str:
        """Return the reasoning that has become final since the last call."""
        taken, self._reasoning = self._reasoning, ""
        return taken

    def take_calls(self) -> tuple[ToolCallPiece, ...]:
        """Return the pieces of calls that have become final since the last call of this."""
        taken, self._calls = tuple(self._calls), []
        return taken

    def _add(self, piece: str) -> str:
        if self.stopped:
            return ""
        self.decoded += len(piece)
        if self._splitter:
            split = self._splitter.push(piece)
            self._reasoning += split.reasoning
            piece = split.answer
            if self._splitter.is_answer:
                self._splitter, self._decoder.visible = None, self._visible_in_answer
                self.answer_start = self.decoded - len(piece)
        return self._add_answer(piece)

    def _add_answer(self, piece: str) -> str:
        if self._parser:
            piece = self._keep_calls(self._parser.push(piece))
        return self._cut_at_stop(piece)

    def _keep_calls(self, parsed: ParsedText) -> str:
        self._calls += parsed.calls
        return parsed.text

    def _cut_at_stop(self, piece: str) -> str:
        if not self._started:
            piece = piece.lstrip()
            self._started = bool(piece)
        text = self._held + piece
        starts = [start for string in self._stop if (start := text.find(string)) >= 0]
        if starts:
            self._held = ""
            in_parser = self._parser.held_length if self._parser else 0
            self._cut = self.decoded - in_parser - len(text) + min(starts)
            return text[: min(starts)]
        final = len(text) - overlap(text, self._stop)
        self._held = text[final:]
        return text[:final]
