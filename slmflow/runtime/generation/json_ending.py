"""End guided JSON in time: a model may write digits, strings and lists without end.

llguidance allows what the schema allows, and chooses nothing. Here the tokens that close JSON
become certain, wherever they are allowed, in two cases: when the remaining tokens are needed for
closing what is open, and after a number that has all digits of a 64-bit number.
"""

import math
import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .logits_processors import Logits
from .token_texts import TokenTexts

# Tokens by what they write: the end of a string, of lists and objects, or of one value in these;
# and the start of a list or object.
_STRING_END = re.compile(r'"[\]}]*|<0x22>')
_BRACKETS = re.compile(r"[\]}]+")
_SEPARATOR = re.compile(r',"?')
_OPENING = re.compile(r".*[\[{].*", re.DOTALL)

# More would not fit int64, or make a float64 infinite.
_MAX_DIGITS, _MAX_EXPONENT_DIGITS = 19, 2

# More than logits differ.
_CERTAIN = np.float32(1000)

# A model may need more tokens for a text than its tokenizer.
_MORE_TOKENS, _SPARE_TOKENS = 1.5, 8


class ClosingTokens:
    """The tokens of a vocabulary that close JSON, and those that open more of it."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: Iterable[int]) -> None:
        """Find them. end_tokens: the ids that end a completion."""
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)

        def matching(pattern: re.Pattern[str]) -> NDArray[np.int64]:
            ids = [token for text, token in vocabulary.items() if pattern.fullmatch(text)]
            return np.array(ids, dtype=np.int64)  # plain tokens, so the model knows them

        self.string_end, self.separator = matching(_STRING_END), matching(_SEPARATOR)
        self.opening = matching(_OPENING)
        self.brackets = np.concatenate(
            [matching(_BRACKETS), np.array(sorted(end_tokens), dtype=np.int64)]
        )


class JsonEnding:
    """The state of one completion that contains JSON."""

    def __init__(
        self,
        tokens: ClosingTokens,
        texts: TokenTexts,
        max_new_tokens: int,
        closing: str,
        closing_tokens: int,
    ) -> None:
        """Start a completion of at most `max_new_tokens`.

        closing: the longest text that completes a document in which no object is inside one of the
        same schema; closing_tokens: how many tokens the tokenizer makes of it.
        """
        self._tokens, self._texts = tokens, texts
        self._remaining = max_new_tokens
        self._closing_tokens, self._closing_depth = closing_tokens, _depth(closing)
        self._reader = _JsonReader()

    def record(self, token: int) -> None:
        """Add a generated token."""
        self._remaining -= 1
        self._reader.read(self._texts.bytes_of(token))

    def favor(self, logits: Logits) -> None:
        """Raise the logits of closing tokens, float32[vocabulary], in place, if it is time."""
        reader, is_late = self._reader, self._remaining <= self._reserve
        if reader.in_string:
            if is_late and not reader.is_escaped:
                logits[self._tokens.string_end] += _CERTAIN
        elif is_late:
            logits[self._tokens.opening] -= _CERTAIN
            logits[self._tokens.separator] += _CERTAIN
            logits[self._tokens.brackets] += 2 * _CERTAIN  # what is complete needs no more values
        elif reader.has_long_number:
            logits[self._tokens.separator] += _CERTAIN
            logits[self._tokens.brackets] += _CERTAIN

    @property
    def _reserve(self) -> int:
        """How many tokens closing takes. A schema inside itself is closed at each level."""
        repeated = max(1.0, self._reader.depth / self._closing_depth)
        return math.ceil(_MORE_TOKENS * self._closing_tokens * repeated) + _SPARE_TOKENS


class _JsonReader:
    """Where a text is in its JSON. Text before and after the JSON must have no quotes.

    depth: how many lists and objects are open.
    """

    def __init__(self) -> None:
        self.in_string, self.is_escaped = False, False
        self.depth = 0
        self._digits, self._in_exponent = 0, False

    @property
    def has_long_number(self) -> bool:
        return self._digits >= (_MAX_EXPONENT_DIGITS if self._in_exponent else _MAX_DIGITS)

    def read(self, text: bytes) -> None:
        for byte in text:
            self._read(chr(byte))

    def _read(self, character: str) -> None:
        if self.is_escaped:
            self.is_escaped = False
        elif character == '"':
            self.in_string = not self.in_string
        elif self.in_string:
            self.is_escaped = character == "\\"
        else:
            self.depth += (character in "[{") - (character in "]}")
            self._read_number(character)

    def _read_number(self, character: str) -> None:
        if character in "0123456789":
            self._digits += 1
        elif character in "eE" and self._digits:
            self._digits, self._in_exponent = 0, True
        elif character not in "+-.":
            self._digits, self._in_exponent = 0, False


def _depth(text: str) -> int:
    """Return how many lists and objects are open at once in JSON, at least 1."""
    reader, depth = _JsonReader(), 1
    for character in text:
        reader.read(character.encode())
        depth = max(depth, reader.depth)
    return depth
