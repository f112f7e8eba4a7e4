"""A data file of a hub dataset at a commit, kept in the store."""

import hashlib
from collections.abc import Collection
from pathlib import Path

from steps.common import hub, store
from steps.common.errors import UserError
from steps.common.hub import Repository
from steps.common.schema.evaluation import HubDataset

_INSTEAD = "take a file that is here (evaluation.data=FILE)"


def bring(dataset: HubDataset) -> Path:
    """Return the file, which `steps.common.hub` has proven to be the commit's.

    Raises UserError where it is not in the store and not to be had.
    """
    hub_id, revision, file = str(dataset.id), str(dataset.revision), str(dataset.file)
    repository = Repository("dataset", hub_id, revision, "evaluation.dataset", _INSTEAD)

    def choose(names: Collection[str]) -> list[str]:
        if file not in names:
            raise UserError(
                f"evaluation.dataset.file={file!r}: {repository.name} has no such file: "
                f"copy a path from {repository.page}/tree/{revision}"
            )
        return [file]

    key = hashlib.sha256("\n".join((hub_id, revision, file)).encode()).hexdigest()
    entry = store.get_or_build(
        "datasets", key, lambda building: hub.download(repository, choose, building)
    )
    return entry / file
