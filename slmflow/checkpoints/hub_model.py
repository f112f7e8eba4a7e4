"""Download a checkpoint from the hub."""

from collections.abc import Mapping
from pathlib import Path

from slmflow.checkpoints import files
from slmflow.hub import download as hub
from slmflow.hub.repository import Repository


def repository(model_id: str, revision: str) -> Repository:
    """Return the hub repository of a model at a commit."""
    advice = "use a local model (model=tiny_phi3)"
    return Repository("model", model_id, revision, "model", advice)


def download(model: Repository, target: Path) -> None:
    """Download the checkpoint files of a model. Raises UserError and leaves `target` empty."""

    def select_files(sizes: Mapping[str, int]) -> list[str]:
        names = files.select(sizes, model.name)
        files.check_sizes({name: sizes[name] for name in names}, model.name)
        return names

    hub.download(model, select_files, target)
