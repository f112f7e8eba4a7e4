"""What a model carries, against its files, the tracking server, the store and this repository."""

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME

from slmflow.flavors.log_model import SUMS
from slmflow.flavors.provenance import FILES, LOCK, LOCK_FILE, Provenance, Source
from slmflow.pipeline import checksums, runs, store
from slmflow.system.git_state import content_at
from slmflow.verification.findings import Finding, State
from slmflow.verification.recorded import Carried

_LOGGED = re.compile(r"models:/(m-[0-9a-f]+)/?")

# MLflow lays more into a model: when one reads it, which version it is registered as, and in
# Databricks copies of the files that describe it.
_VERSION_NOTE = REGISTERED_MODEL_META_FILE_NAME
_NOTED = {"model_name", "model_version"}
_NOTE_BYTES = 4096
_COPIES = "metadata/"


def of(carried: Carried, address: str) -> list[Finding]:
    """Return what comes of every check of a model."""
    found = [_files(carried)]
    provenance = carried.provenance
    if provenance is None:
        told = "what the model comes from cannot be read any more"
        return [*found, Finding("origin", State.differs, told)]
    return [
        *found,
        _logged(carried, provenance, address),
        _run(provenance),
        *(_in_model(carried, source) for source in provenance.sources if source.folder),
        *(_in_store(source) for source in provenance.sources),
        _lock(carried, provenance),
    ]


def _files(carried: Carried) -> Finding:
    found = dict(carried.found)
    for note in _notes_of_mlflow(carried):
        del found[note]
    if differences := checksums.differences(carried.recorded, found):
        return Finding("files", State.differs, _listed(differences))
    return Finding("files", State.holds, f"all {len(found)} are those that were logged")


def _notes_of_mlflow(carried: Carried) -> Iterator[str]:
    for path in carried.found.keys() - carried.recorded.keys():
        copied = path.removeprefix(_COPIES)
        is_copy = copied != path and carried.found[path] == carried.recorded.get(copied)
        if is_copy or (path == _VERSION_NOTE and _notes_a_version(carried.folder / path)):
            yield path


def _notes_a_version(file: Path) -> bool:
    try:
        if file.stat().st_size > _NOTE_BYTES:
            return False
        noted = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return isinstance(noted, dict) and noted.keys() == _NOTED


def _logged(carried: Carried, provenance: Provenance, address: str) -> Finding:
    """Check the sum of the sums, which the tracking server has apart from the files."""
    model_id = provenance.model_id
    if (asked := _LOGGED.fullmatch(address)) and asked[1] != model_id:
        return Finding("sums", State.differs, f"the model says of itself that it is {model_id}")
    try:
        noted = mlflow.get_logged_model(model_id).tags.get(SUMS)
    except MlflowException:
        return Finding("sums", State.unchecked, f"this tracking server has no model {model_id}")
    if noted is None:
        return Finding("sums", State.unchecked, f"{model_id} has no tag {SUMS}")
    if noted != store.sha256(carried.folder / FILES):
        told = f"changed: {FILES!r} is not the one whose sum {model_id} has as its tag {SUMS}"
        return Finding("sums", State.differs, told)
    return Finding("sums", State.holds, f"{FILES} is the one that was logged as {model_id}")


def _run(provenance: Provenance) -> Finding:
    """Check key and commit, which the run that logged the model has too."""
    try:
        tags = MlflowClient().get_run(provenance.run_id).data.tags
    except MlflowException:
        told = f"this tracking server has no run {provenance.run_id}"
        return Finding("run", State.unchecked, told)
    if runs.KEY not in tags:
        return Finding("run", State.unchecked, f"run {provenance.run_id} has noted no key")
    expected = {runs.KEY: provenance.keys[provenance.step]}
    if provenance.git_commit:
        expected[runs.GIT_COMMIT] = provenance.git_commit
    if wrong := [tag for tag, value in expected.items() if tags.get(tag) != value]:
        told = f"{', '.join(wrong)} of run {provenance.run_id} is not what the model carries"
        return Finding("run", State.differs, told)
    told = f"{provenance.run_id} has noted the same {' and '.join(expected)}"
    return Finding("run", State.holds, told)


def _in_model(carried: Carried, source: Source) -> Finding:
    """Check what the model has of a step's files."""
    expected = {f"{source.folder}/{path}": digest for path, digest in source.files.items()}
    found = {path: digest for path, digest in carried.found.items() if path in expected}
    if differences := checksums.differences(expected, found):
        told = f"not what {source.step} made: {_listed(differences)}"
        return Finding("contents", State.differs, told)
    told = f"the {len(expected)} files in {source.folder} are those that {source.step} made"
    return Finding("contents", State.holds, told)


def _in_store(source: Source) -> Finding:
    """Check a step's files in the store against the manifest that the model carries."""
    entry = store.home() / source.entry
    if not entry.is_dir():
        return Finding("store", State.unchecked, f"there is no {entry} of {source.step}")
    found = checksums.of(entry)
    found.pop(store.MANIFEST, None)
    if differences := checksums.differences(source.files, found):
        return Finding("store", State.differs, f"in {entry} {_listed(differences)}")
    return Finding("store", State.holds, f"{len(found)} files of {source.step} in {entry}")


def _lock(carried: Carried, provenance: Provenance) -> Finding:
    """Check the lock file against that of the commit."""
    commit = provenance.git_commit
    if commit is None:
        return Finding("lock", State.unchecked, "its commit was not known when it was logged")
    if (expected := content_at(commit, LOCK_FILE.name)) is None:
        return Finding("lock", State.unchecked, f"there is no commit {commit} here")
    lock = carried.folder / LOCK
    if lock.is_file() and lock.read_bytes() == expected:
        return Finding("lock", State.holds, f"{LOCK} is that of commit {commit}")
    if provenance.git_dirty is not False:
        told = f"{LOCK} is not that of commit {commit}, but the working tree may have had changes"
        return Finding("lock", State.unchecked, told)
    return Finding("lock", State.differs, f"{LOCK!r} is not that of commit {commit}")


def _listed(differences: list[checksums.Difference]) -> str:
    return "; ".join(str(difference) for difference in differences)
