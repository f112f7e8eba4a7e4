"""Warnings about a hub model's licence, shown before the download."""

from collections.abc import Iterator

from slmflow.config.schema.model import Model
from slmflow.hub.repository import Repository


def find_warnings(model: Model, repository: Repository) -> Iterator[str]:
    """Yield a warning if the model is gated, and one if its licence is unknown."""
    if model.gated:
        yield (
            f"{repository.name} is gated, under the licence {model.licence or 'on its page'}: "
            f"request access at {repository.page}, and set HF_TOKEN to a token of that account"
        )
    if model.licence is None:
        yield (
            f"the licence of {repository.name} is unknown: read {repository.page} before you use "
            "the model, and set model.licence=..."
        )
