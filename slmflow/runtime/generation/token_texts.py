"""What single tokens mean as text and bytes: a token may be part of a character."""

import json
import re
from functools import cache
from typing import Any

from tokenizers import Tokenizer

# A single-byte token of a SentencePiece vocabulary.
_BYTE = re.compile("<0x([0-9A-F]{2})>")


class TokenTexts:
    """The texts and bytes of a tokenizer's tokens. Each token is looked up once."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Read how the tokenizer turns tokens into bytes."""
        self._tokenizer = tokenizer
        self._added = tokenizer.get_added_tokens_decoder()
        decoders = _types(json.loads(tokenizer.to_str())["decoder"])
        self._has_byte_level = "ByteLevel" in decoders
        self._has_byte_tokens = "ByteFallback" in decoders
        self._bytes: dict[int, bytes] = {}

    def bytes_of(self, token: int) -> bytes:
        """Return the UTF-8 bytes that a token adds to a text; of a special token those of its name.

        A token id without a token, as some vocabularies have at their end, has none.
        """
        if token not in self._bytes:
            self._bytes[token] = self._find_bytes(token)
        return self._bytes[token]

    def text_of(self, token: int) -> str:
        r"""Return the text that a token adds; other bytes are written as in `\xe4`, as OpenAI."""
        return self.bytes_of(token).decode("utf-8", errors="backslashreplace")

    def _find_bytes(self, token: int) -> bytes:
        if (added := self._added.get(token)) is not None:
            return added.content.encode()
        if (piece := self._tokenizer.id_to_token(token)) is None:
            return b""
        if self._has_byte_tokens and (byte := _BYTE.fullmatch(piece)):
            return bytes([int(byte[1], 16)])
        if self._has_byte_level:
            table = _byte_level_table()
            if all(character in table for character in piece):
                return bytes(table[character] for character in piece)
        # The first token of a text may lose its leading space, so that of the second counts.
        decode = self._tokenizer.decode
        once = decode([token], skip_special_tokens=False)
        text: str = decode([token, token], skip_special_tokens=False)
        return text[len(once) :].encode()


def _types(decoder: Any) -> set[str]:
    """Return the types of a decoder of tokenizer.json, which may be a sequence of others."""
    if not decoder:
        return set()
    return {decoder["type"]}.union(*map(_types, decoder.get("decoders", [])))


@cache
def _byte_level_table() -> dict[str, int]:
    """Return the byte of each character of byte-level BPE, as GPT-2 assigns them.

    Printable bytes stand for themselves, and the others for the characters from U+0100.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    shifted = {chr(0x100 + index): byte for index, byte in enumerate(others)}
    return {**{chr(byte): byte for byte in printable}, **shifted}
