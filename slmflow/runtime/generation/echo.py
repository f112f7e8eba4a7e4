"""The prompt that a response repeats before its completion."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tokenizers import Tokenizer

from .detokenizer import IncrementalDecoder
from .events import TextPiece, TokenLogprob
from .logits_processors import Logits
from .logprobs import LogprobReader


class EchoedPrompt:
    """The text of a prompt and, if they are asked for, the log-probabilities of its tokens."""

    def __init__(
        self,
        text: str,
        tokens: Sequence[int],
        tokenizer: Tokenizer,
        reader: LogprobReader | None,
    ) -> None:
        """Repeat a text of the given token ids. reader: None without log-probabilities."""
        self._text, self._tokens, self._reader = text, tokens, reader
        self._offsets = _offsets(text, tokens, tokenizer) if reader else []
        self._logprobs = [reader.read(tokens[0], None, 0)] if reader else []

    @property
    def unread(self) -> int:
        """How many log-probabilities are still to be read."""
        return len(self._tokens) - len(self._logprobs) if self._reader else 0

    def read(self, index: int, logits: Logits) -> None:
        """Take the logits before a token, unless its log-probability is known."""
        if self._reader and index == len(self._logprobs):
            offset = self._offsets[index]
            self._logprobs.append(self._reader.read(self._tokens[index], logits, offset))

    def piece(self) -> TextPiece:
        """Return the text, and what is known of its tokens."""
        return TextPiece(self._text, tuple(self._logprobs))

    def after(self, logprobs: Iterable[TokenLogprob]) -> tuple[TokenLogprob, ...]:
        """Return log-probabilities of tokens after the prompt, with their places after its text."""
        length = len(self._text)
        return tuple(replace(each, offset=length + each.offset) for each in logprobs)


def _offsets(text: str, tokens: Sequence[int], tokenizer: Tokenizer) -> list[int]:
    """Return where each token begins in the text."""
    decoder, offsets, decoded = IncrementalDecoder(tokenizer), [], 0
    for token in tokens:
        offsets.append(min(decoded, len(text)))
        decoded += len(decoder.push(token))
    return offsets
