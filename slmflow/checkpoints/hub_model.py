"""Download a checkpoint from the hub, after warnings about its licence."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from slmflow.checkpoints import files
from slmflow.config.schema.model import Model
from slmflow.hub import download as hub
from slmflow.hub.repository import Repository


def repository(model_id: str, revision: str) -> Repository:
    """Return the hub repository of a model at a commit."""
    advice = "use a local model (model=tiny_phi3)"
    return Repository("model", model_id, revision, "model", advice)


def licence_warnings(model: Model, repository: Repository) -> Iterator[str]:
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


def download_config(model: Repository, target: Path) -> None:
    """Download config.json alone. Raises UserError and leaves `target` empty."""

    def select_config(sizes: Mapping[str, int]) -> list[str]:
        files.select(sizes, model.name)  # all that is missing is reported at once
        files.check_sizes({files.CONFIG: sizes[files.CONFIG]}, model.name)
        return [files.CONFIG]

    hub.download(model, select_config, target)


def download(model: Repository, target: Path) -> None:
    """Download the checkpoint files of a model. Raises UserError and leaves `target` empty."""

    def select_files(sizes: Mapping[str, int]) -> list[str]:
        names = files.select(sizes, model.name)
        files.check_sizes({name: sizes[name] for name in names}, model.name)
        return names

    hub.download(model, select_files, target)
