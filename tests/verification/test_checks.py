"""What the runs and the repository have of a model, told apart from what they do not have."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import git
import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.flavors.provenance import FOLDER, LOCK, Provenance
from slmflow.pipeline import runs
from slmflow.system import git_state
from slmflow.verification import checks
from slmflow.verification.findings import State
from slmflow.verification.recorded import Carried

KEY = "a" * 64
CARRIED = Provenance("log_genai", {}, {"log_genai": KEY}, None, None, ())


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[git.Repo]:
    """A repository of its own in the place of the project's, with one commit of a lock file."""
    folder = tmp_path / "project"
    with git.Repo.init(folder) as made:
        (folder / "constraints.txt").write_text("left-pad==1.0\n")
        made.index.add(["constraints.txt"])
        someone = git.Actor("someone", "someone@example.com")
        made.index.commit("Begin", author=someone, committer=someone)
        monkeypatch.setattr(git_state, "PROJECT", folder)
        yield made


def found(folder: Path, carried: Provenance) -> dict[str, State]:
    """Return what the checks of a model without files find."""
    all_found = checks.of(Carried(folder, {}, {}, carried), str(folder))
    return {finding.check: finding.state for finding in all_found}


def test_the_lock_file_is_that_of_the_commit(
    repository: git.Repo, tracking: str, tmp_path: Path
) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / LOCK).write_text("left-pad==1.0\n")
    known = replace(CARRIED, git_commit=repository.head.commit.hexsha, git_dirty=False)

    assert found(tmp_path, known)["lock"] is State.holds
    assert found(tmp_path, CARRIED)["lock"] is State.unchecked
    assert found(tmp_path, replace(known, git_commit="0" * 40))["lock"] is State.unchecked
    (tmp_path / LOCK).write_text("left-pad==1.1\n")
    assert found(tmp_path, known)["lock"] is State.differs
    assert found(tmp_path, replace(known, git_dirty=True))["lock"] is State.unchecked


def test_key_and_commit_are_those_of_the_run(tracking: str, tmp_path: Path) -> None:
    with mlflow.start_run() as run:
        run_id = run.info.run_id
    carried = replace(CARRIED, run_id=run_id, git_commit="1" * 40, git_dirty=True)

    assert found(tmp_path, CARRIED)["run"] is State.unchecked
    assert found(tmp_path, carried)["run"] is State.unchecked
    for tag, value in ((runs.KEY, KEY), (runs.GIT_COMMIT, "1" * 40)):
        MlflowClient().set_tag(run_id, tag, value)
    assert found(tmp_path, carried)["run"] is State.holds
    assert found(tmp_path, replace(carried, git_commit="2" * 40))["run"] is State.differs
    other_key = replace(carried, keys={"log_genai": "b" * 64})
    assert found(tmp_path, other_key)["run"] is State.differs
