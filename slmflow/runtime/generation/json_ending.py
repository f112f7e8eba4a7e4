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

# Tokens by what they write: the end of a string, of lists and objects, or of one value in these.
_STRING_END = re.compile(r'"[\]}]*|<0x22>')
_BRACKETS = re.compile(r"[\]}]+")
_SEPARATOR = re.compile(r',"?')

# More would not fit int64, or make a float64 infinite.
_MAX_DIGITS, _MAX_EXPONENT_DIGITS = 19, 2

# More than logits differ.
_CERTAIN = np.float32(1000)

# A model may need more tokens for a text than its tokenizer.
_MORE_TOKENS, _SPARE_TOKENS = 1.5, 8


class ClosingTokens:
    """The tokens of a vocabulary that close JSON."""

    def __init__(self, tokenizer: Tokenizer, end_tokens: Iterable[int]) -> None:
        """Find them. end_tokens: the ids that end a completion."""
        vocabulary = tokenizer.get_vocab(with_added_tokens=False)

        def matching(pattern: re.Pattern[str]) -> NDArray[np.int64]:
            ids = [token for text, token in vocabulary.items() if pattern.fullmatch(text)]
            return np.array(ids, dtype=np.int64)  # plain tokens, so the model knows them

        self.string_end, self.separator = matching(_STRING_END), matching(_SEPARATOR)
        self.brackets = np.concatenate(
            [matching(_BRACKETS), np.array(sorted(end_tokens), dtype=np.int64)]
        )


class JsonEnding:
    """The state of one completion that contains JSON."""

    def __init__(
        self, tokens: ClosingTokens, texts: TokenTexts, max_new_tokens: int, closing_tokens: int
    ) -> None:
        """Start a completion of at most `max_new_tokens`.

        closing_tokens: how many tokens a tokenizer needs for closing what may be open.
        """
        self._tokens, self._texts = tokens, texts
        self._remaining = max_new_tokens
        self._reserve = math.ceil(_MORE_TOKENS * closing_tokens) + _SPARE_TOKENS
        self._in_string, self._is_escaped = False, False
        self._digits, self._in_exponent = 0, False

    def record(self, token: int) -> None:
        """Add a generated token."""
        self._remaining -= 1
        for byte in self._texts.bytes(token):
            self._read(byte)

    def favor(self, logits: Logits) -> None:
        """Raise the logits of closing tokens, float32[vocabulary], in place, if it is time."""
        is_late = self._remaining <= self._reserve
        if self._in_string:
            if is_late and not self._is_escaped:
                logits[self._tokens.string_end] += _CERTAIN
        elif is_late or self._digits >= (
            _MAX_EXPONENT_DIGITS if self._in_exponent else _MAX_DIGITS
        ):
            logits[self._tokens.separator] += _CERTAIN
            # What is complete needs no further value.
            logits[self._tokens.brackets] += 2 * _CERTAIN if is_late else _CERTAIN

    def _read(self, byte: int) -> None:
        character = chr(byte)
        if self._is_escaped:
            self._is_escaped = False
        elif character == '"':
            self._in_string = not self._in_string
        elif self._in_string:
            self._is_escaped = character == "\\"
        elif character in "0123456789":
            self._digits += 1
        elif character in "eE" and self._digits:
            self._digits, self._in_exponent = 0, True
        elif character not in "+-.":
            self._digits, self._in_exponent = 0, False
