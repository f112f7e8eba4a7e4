"""Tokens that a tokenizer knows and the model does not."""

from collections.abc import Sequence

from tokenizers import Tokenizer

from ..errors import reject


def reject_unknown_tokens(
    ids: Sequence[int], vocabulary_size: int, tokenizer: Tokenizer, field: str | None = None
) -> None:
    """Raise MlflowException (HTTP 400) that names the first id the model has no weights for.

    field: the field of the request that the ids come from.
    """
    if token := next((token for token in ids if token >= vocabulary_size), None):
        reject(
            f"the prompt has the token {tokenizer.id_to_token(token)!r}, whose id is {token}, but "
            f"the model's vocabulary has only {vocabulary_size} tokens: leave it out",
            param=field,
        )
