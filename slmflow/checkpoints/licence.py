"""What to know of a hub model's licence before it is downloaded."""

from collections.abc import Iterator

from slmflow.config.schema.model import Model
from slmflow.hub.download import Repository


def cautions(model: Model, repository: Repository) -> Iterator[str]:
    """Yield what holds the user back, or should: consent to be given, a licence nobody has read."""
    if model.gated:
        yield (
            f"{repository.name} is gated, under the licence {model.licence or 'on its page'}: "
            f"its makers must have granted you access at {repository.page}, and HF_TOKEN must be a "
            "token of that account"
        )
    if model.licence is None:
        yield (
            f"the licence of {repository.name} is unknown: read {repository.page} before you use "
            "what comes, and say what it is with model.licence=..."
        )
