"""Download a data file of a hub dataset to the store."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from slmflow.config.schema.evaluation import HubDataset
from slmflow.datasets.readers import MAX_BYTES
from slmflow.errors import UserError
from slmflow.hub.download import download
from slmflow.hub.repository import Repository
from slmflow.pipeline import entries


def get_file(dataset: HubDataset) -> Path:
    """Return the path of the file in the store; download it if it is missing.

    Raises UserError if it is unavailable.
    """
    hub_id, revision, path = str(dataset.id), str(dataset.revision), str(dataset.file)
    advice = "use a local file (evaluation.data=FILE)"
    repository = Repository("dataset", hub_id, revision, "evaluation.dataset", advice)

    def select_file(sizes: Mapping[str, int]) -> list[str]:
        if path not in sizes:
            raise UserError(
                f"evaluation.dataset.file={path!r}: {repository.name} has no such file: "
                f"copy a path from {repository.page}/tree/{revision}"
            )
        if sizes[path] > MAX_BYTES:
            raise UserError(
                f"evaluation.dataset.file={path!r} has {sizes[path] / 1e6:,.0f} MB, more than the "
                f"limit of {MAX_BYTES / 1e6:.0f} MB: choose a smaller file"
            )
        return [path]

    key = hashlib.sha256("\n".join((hub_id, revision, path)).encode()).hexdigest()
    entry = entries.get_or_build(
        "datasets",
        key,
        lambda folder: download(repository, select_file, folder),
        about={"dataset": f"{hub_id}/{path}"},
    )
    return entry / path
