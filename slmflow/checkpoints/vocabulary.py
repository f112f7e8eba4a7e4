"""The tokens of a checkpoint: those of its model, and those of its tokenizer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from slmflow.checkpoints.files import (
    CONFIG,
    SPECIAL_TOKENS,
    TOKENIZER,
    TOKENIZER_CONFIG,
    read_json_object,
)

_ADDED, _TOKENS = "added_tokens.json", "vocab.json"


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a checkpoint.

    size: ids of the model's tokens are below it, None if config.json leaves it to transformers;
    added: ids of the tokens that are never split, special ones among them; ids: those of all
    tokens that the tokenizer's files list; eos: the tokenizer's own end token.
    """

    size: int | None
    added: Mapping[str, int]
    ids: Mapping[str, int]
    eos: str | None

    @classmethod
    def read(cls, folder: Path, model: str) -> Self:
        """Read config and tokenizer files; `model` is the name in messages."""
        settings = _read(folder / TOKENIZER_CONFIG, model)
        tokenizer = _read(folder / TOKENIZER, model)
        added = {
            **_read(folder / _ADDED, model),
            **dict(_added_tokens(tokenizer.get("added_tokens"))),
            **dict(_decoder_tokens(settings.get("added_tokens_decoder"))),
        }
        plain = {**_read(folder / _TOKENS, model), **dict(_model_tokens(tokenizer.get("model")))}
        eos = settings.get("eos_token") or _read(folder / SPECIAL_TOKENS, model).get("eos_token")
        size = _size(read_json_object(folder / CONFIG, model))
        return cls(size, _with_ids(added), _with_ids({**plain, **added}), _text(eos))

    def is_token(self, token: int) -> bool:
        """Return whether the model has a token of this id."""
        return token >= 0 and (self.size is None or token < self.size)

    def warnings(self, model: str) -> Iterator[str]:
        """Yield a warning if the tokenizer has tokens that the model does not have."""
        unknown = [(token, text) for text, token in self.ids.items() if not self.is_token(token)]
        if unknown:
            token, text = min(unknown)
            yield (
                f"{model}: the tokenizer has {len(unknown)} tokens that the model does not have, "
                f"such as {text!r}, whose id is {token} while vocab_size is {self.size}: prompts "
                "with them are rejected"
            )


def _read(file: Path, model: str) -> dict[str, Any]:
    return read_json_object(file, model) if file.is_file() else {}


def _with_ids(tokens: Mapping[str, Any]) -> dict[str, int]:
    return {text: token for text, token in tokens.items() if type(token) is int}


def _size(config: Mapping[str, Any]) -> int | None:
    for each in (config, config.get("text_config")):
        if isinstance(each, Mapping) and isinstance(size := each.get("vocab_size"), int):
            return size
    return None


def _text(token: Any) -> str | None:
    """Return the text of a token, which may be written as an object."""
    text = token.get("content") if isinstance(token, Mapping) else token
    return text if isinstance(text, str) and text else None


def _added_tokens(tokens: Any) -> Iterator[tuple[str, int]]:
    for token in tokens if isinstance(tokens, list) else []:
        if isinstance(token, Mapping) and isinstance(token.get("id"), int) and _text(token):
            yield str(token["content"]), token["id"]


def _decoder_tokens(tokens: Any) -> Iterator[tuple[str, int]]:
    for token, value in tokens.items() if isinstance(tokens, Mapping) else []:
        if token.isdecimal() and (text := _text(value)):
            yield text, int(token)


def _model_tokens(model: Any) -> Iterator[tuple[str, int]]:
    """Yield the tokens of a tokenizer's model: an object, or a list of pairs with scores."""
    match model:
        case {"vocab": dict() as tokens}:
            yield from tokens.items()
        case {"vocab": list() as tokens}:
            yield from ((str(token), number) for number, (token, *_) in enumerate(tokens))
