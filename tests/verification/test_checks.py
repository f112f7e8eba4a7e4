"""Checks against the run and the repository: equal, different, or unknown."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import git
import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.flavors.provenance import CONSTRAINTS_FILE, FOLDER, Provenance
from slmflow.pipeline import runs
from slmflow.system import git_state
from slmflow.verification import checks
from slmflow.verification.findings import State
from slmflow.verification.recorded_model import RecordedModel

KEY = "a" * 64
PROVENANCE = Provenance("log_genai", {}, {"log_genai": KEY}, None, None, ())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[git.Repo]:
    """A repository in place of the project's, with a lock file in its only commit."""
    folder = tmp_path / "project"
    with git.Repo.init(folder) as repository:
        (folder / "constraints.txt").write_text("left-pad==1.0\n")
        repository.index.add(["constraints.txt"])
        author = git.Actor("someone", "someone@example.com")
        repository.index.commit("Begin", author=author, committer=author)
        monkeypatch.setattr(git_state, "PROJECT", folder)
        yield repository


def check_states(folder: Path, provenance: Provenance) -> dict[str, State]:
    """Return the states by check for a model without files."""
    findings = checks.run_checks(RecordedModel(folder, {}, {}, provenance), str(folder))
    return {finding.check: finding.state for finding in findings}


def test_lock_file_is_compared_with_the_commit(
    repository: git.Repo, tracking: str, tmp_path: Path
) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / CONSTRAINTS_FILE).write_text("left-pad==1.0\n")
    clean = replace(PROVENANCE, git_commit=repository.head.commit.hexsha, git_dirty=False)

    assert check_states(tmp_path, clean)["lock"] is State.holds
    assert check_states(tmp_path, PROVENANCE)["lock"] is State.unchecked
    unknown_commit = replace(clean, git_commit="0" * 40)
    assert check_states(tmp_path, unknown_commit)["lock"] is State.unchecked
    (tmp_path / CONSTRAINTS_FILE).write_text("left-pad==1.1\n")
    assert check_states(tmp_path, clean)["lock"] is State.differs
    assert check_states(tmp_path, replace(clean, git_dirty=True))["lock"] is State.unchecked


def test_key_and_commit_are_compared_with_the_run(tracking: str, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        run_id = run.info.run_id
    provenance = replace(PROVENANCE, run_id=run_id, git_commit="1" * 40, git_dirty=True)

    assert check_states(tmp_path, PROVENANCE)["run"] is State.unchecked
    assert check_states(tmp_path, provenance)["run"] is State.unchecked
    for tag, value in ((runs.KEY, KEY), (runs.GIT_COMMIT, "1" * 40)):
        MlflowClient().set_tag(run_id, tag, value)
    assert check_states(tmp_path, provenance)["run"] is State.holds
    other_commit = replace(provenance, git_commit="2" * 40)
    assert check_states(tmp_path, other_commit)["run"] is State.differs
    other_key = replace(provenance, keys={"log_genai": "b" * 64})
    assert check_states(tmp_path, other_key)["run"] is State.differs
