"""Tokens that a tokenizer knows and the model does not."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from ..errors import reject

# Of the tokenizers library.
_MAX_IDS = 2**32


def reject_unknown_tokens(
    ids: Sequence[int], vocabulary_size: int, tokenizer: Tokenizer, field: str | None = None
) -> None:
    """Raise MlflowException (HTTP 400) that names the first id the model has no weights for.

    field: the field of the request that the ids come from.
    """
    if token := next((token for token in ids if token >= vocabulary_size), None):
        text = tokenizer.id_to_token(token) if token < _MAX_IDS else None
        named = "token id" if text is None else f"token {text!r}, whose id is"
        reject(
            f"the prompt has the {named} {token}, but the model's vocabulary has only "
            f"{vocabulary_size} tokens: leave it out",
            param=field,
        )
