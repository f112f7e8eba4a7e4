"""A data file of a hub dataset at a commit, kept in the store."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from slmflow.config.schema.evaluation import HubDataset
from slmflow.datasets.readers import MOST_BYTES
from slmflow.errors import UserError
from slmflow.hub import download
from slmflow.hub.download import Repository
from slmflow.pipeline import store

_INSTEAD = "take a file that is here (evaluation.data=FILE)"


def bring(dataset: HubDataset) -> Path:
    """Return the file, which `slmflow.hub.download` has proven to be the commit's.

    Raises UserError where it is not in the store and not to be had.
    """
    hub_id, revision, file = str(dataset.id), str(dataset.revision), str(dataset.file)
    repository = Repository("dataset", hub_id, revision, "evaluation.dataset", _INSTEAD)

    def choose(sizes: Mapping[str, int]) -> list[str]:
        if file not in sizes:
            raise UserError(
                f"evaluation.dataset.file={file!r}: {repository.name} has no such file: "
                f"copy a path from {repository.page}/tree/{revision}"
            )
        if sizes[file] > MOST_BYTES:
            raise UserError(
                f"evaluation.dataset.file={file!r} has {sizes[file] / 1e6:,.0f} MB, and no more "
                f"than {MOST_BYTES / 1e6:.0f} MB of rows are read: choose a smaller file"
            )
        return [file]

    key = hashlib.sha256("\n".join((hub_id, revision, file)).encode()).hexdigest()
    entry = store.get_or_build(
        "datasets", key, lambda building: download.download(repository, choose, building)
    )
    return entry / file
