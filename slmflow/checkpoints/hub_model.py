"""The files of a hub model."""

from collections.abc import Mapping
from pathlib import Path

from slmflow.checkpoints import files
from slmflow.hub import download as hub
from slmflow.hub.download import Repository


def repository(model_id: str, revision: str) -> Repository:
    """Return a model at a commit."""
    instead = "take a model that is here (model=tiny_phi3)"
    return Repository("model", model_id, revision, key="model", instead=instead)


def download(model: Repository, target: Path) -> None:
    """Fill `target` with the files of a model at a commit, as `slmflow.hub.download` does it.

    Raises UserError, with nothing in `target`.
    """

    def choose(sizes: Mapping[str, int]) -> list[str]:
        names = files.choose(sizes, model.name)
        files.refuse_oversized({name: sizes[name] for name in names}, model.name)
        return names

    hub.download(model, choose, target)
