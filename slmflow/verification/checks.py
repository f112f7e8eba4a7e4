"""Compare a model's records with its files, the tracking server, the store and the repository."""

import re
from collections.abc import Iterator
from pathlib import Path

import mlflow
import yaml
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME

from slmflow.flavors.log_model import CHECKSUMS_TAG
from slmflow.flavors.provenance import (
    CHECKSUMS_FILE,
    CONSTRAINTS_FILE,
    PROJECT_CONSTRAINTS,
    Provenance,
    SourceEntry,
)
from slmflow.pipeline import checksums, digests, runs, store
from slmflow.system.git_state import file_at_commit
from slmflow.verification.findings import Finding, State
from slmflow.verification.recorded_model import RecordedModel

_LOGGED_MODEL_URI = re.compile(r"models:/(m-[0-9a-f]+)/?")

# Files that MLflow adds to a logged model: on reading it, a note of the version that it is
# registered as; in Databricks, copies of the files that describe it.
_VERSION_NOTE = REGISTERED_MODEL_META_FILE_NAME
_VERSION_NOTE_KEYS = {"model_name", "model_version"}
_MAX_VERSION_NOTE_BYTES = 4096
_COPIES_PREFIX = "metadata/"


def run_checks(model: RecordedModel, model_uri: str) -> list[Finding]:
    """Run all checks of a model."""
    findings = [_check_files(model)]
    provenance = model.provenance
    if provenance is None:
        return [*findings, Finding("origin", State.differs, "the provenance is unreadable")]
    return [
        *findings,
        _check_checksums_file(model, provenance, model_uri),
        _check_run(provenance),
        *(_check_contents(model, source) for source in provenance.sources if source.folder),
        *(_check_store(source) for source in provenance.sources),
        _check_lock_file(model, provenance),
    ]


def _check_files(model: RecordedModel) -> Finding:
    actual = dict(model.actual)
    for path in _files_of_mlflow(model):
        del actual[path]
    if differences := checksums.compare(model.recorded, actual):
        return Finding("files", State.differs, differences)
    return Finding("files", State.holds, f"all {len(actual)} files are as logged")


def _files_of_mlflow(model: RecordedModel) -> Iterator[str]:
    for path in model.actual.keys() - model.recorded.keys():
        original = path.removeprefix(_COPIES_PREFIX)
        is_copy = original != path and model.actual[path] == model.recorded.get(original)
        if is_copy or (path == _VERSION_NOTE and _is_version_note(model.folder / path)):
            yield path


def _is_version_note(file: Path) -> bool:
    try:
        if file.stat().st_size > _MAX_VERSION_NOTE_BYTES:
            return False
        content = yaml.safe_load(file.read_bytes())
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return False
    return isinstance(content, dict) and content.keys() == _VERSION_NOTE_KEYS


def _check_checksums_file(model: RecordedModel, provenance: Provenance, model_uri: str) -> Finding:
    """Check the recorded checksums by their own checksum, which the tracking server stores."""
    model_id = provenance.model_id
    if (match := _LOGGED_MODEL_URI.fullmatch(model_uri)) and match[1] != model_id:
        return Finding("sums", State.differs, f"its provenance says that it is {model_id}")
    try:
        logged = mlflow.get_logged_model(model_id).tags.get(CHECKSUMS_TAG)
    except MlflowException:
        return Finding("sums", State.unchecked, f"this tracking server has no model {model_id}")
    if logged is None:
        return Finding("sums", State.unchecked, f"{model_id} has no tag {CHECKSUMS_TAG}")
    if logged != digests.sha256(model.folder / CHECKSUMS_FILE):
        detail = f"changed: {CHECKSUMS_FILE!r} does not match the tag {CHECKSUMS_TAG} of {model_id}"
        return Finding("sums", State.differs, detail)
    return Finding("sums", State.holds, f"{CHECKSUMS_FILE} is as logged in {model_id}")


def _check_run(provenance: Provenance) -> Finding:
    """Compare key and commit with those of the run that logged the model."""
    run_id = provenance.run_id
    try:
        tags = MlflowClient().get_run(run_id).data.tags
    except MlflowException:
        return Finding("run", State.unchecked, f"this tracking server has no run {run_id}")
    if runs.KEY not in tags:
        return Finding("run", State.unchecked, f"run {run_id} has no tag {runs.KEY}")
    expected = {runs.KEY: provenance.keys[provenance.step]}
    if provenance.git_commit:
        expected[runs.GIT_COMMIT] = provenance.git_commit
    if wrong := [tag for tag, value in expected.items() if tags.get(tag) != value]:
        detail = f"{', '.join(wrong)} of run {run_id} does not match the model's provenance"
        return Finding("run", State.differs, detail)
    return Finding("run", State.holds, f"run {run_id} has the same {' and '.join(expected)}")


def _check_contents(model: RecordedModel, source: SourceEntry) -> Finding:
    """Compare the model's copy of a step's files with the manifest in the provenance."""
    expected = {f"{source.folder}/{path}": digest for path, digest in source.files.items()}
    actual = {path: digest for path, digest in model.actual.items() if path in expected}
    if differences := checksums.compare(expected, actual):
        detail = f"not the output of {source.step}: {differences}"
        return Finding("contents", State.differs, detail)
    detail = f"the {len(expected)} files in {source.folder} are the output of {source.step}"
    return Finding("contents", State.holds, detail)


def _check_store(source: SourceEntry) -> Finding:
    """Compare a step's files in the store with the manifest in the provenance."""
    entry = store.home() / source.entry
    if not entry.is_dir():
        return Finding("store", State.unchecked, f"{entry}, the output of {source.step}, is absent")
    actual = checksums.compute(entry)
    actual.pop(store.MANIFEST, None)
    if differences := checksums.compare(source.files, actual):
        return Finding("store", State.differs, f"in {entry}: {differences}")
    return Finding("store", State.holds, f"{len(actual)} files of {source.step} in {entry}")


def _check_lock_file(model: RecordedModel, provenance: Provenance) -> Finding:
    """Compare the lock file with that of the commit."""
    commit = provenance.git_commit
    if commit is None:
        return Finding("lock", State.unchecked, "the commit was unknown when the model was logged")
    if (expected := file_at_commit(commit, PROJECT_CONSTRAINTS.name)) is None:
        return Finding("lock", State.unchecked, f"commit {commit} is unknown on this machine")
    file = model.folder / CONSTRAINTS_FILE
    if file.is_file() and file.read_bytes() == expected:
        return Finding("lock", State.holds, f"{CONSTRAINTS_FILE} is that of commit {commit}")
    detail = f"{CONSTRAINTS_FILE!r} is not that of commit {commit}"
    if provenance.git_dirty is False:
        return Finding("lock", State.differs, detail)
    detail += ", but the working tree may have had changes"
    return Finding("lock", State.unchecked, detail)
