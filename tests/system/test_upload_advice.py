"""What MLflow's Databricks client uploads, and the advice where that is more than it need be."""

import os
import subprocess
from pathlib import Path

import pytest
from mlflow.utils import file_utils

from slmflow.system import databricks, git_state

ON_DRIVER = {databricks.RUNTIME: "15.4"}


def _git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
    command = ["git", *who, *arguments]
    done = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def _uploaded(project: Path) -> int:
    archive = project.with_suffix(".tar.gz")
    file_utils.make_tarfile(str(archive), str(project), "mlflow-project")
    return archive.stat().st_size


def test_repository_in_an_upload_is_named_and_a_worktree_avoids_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout, worktree = tmp_path / "checkout", tmp_path / "worktree"
    checkout.mkdir()
    _git(checkout, "init", "--quiet")
    for content in (os.urandom(2_000_000), b"small"):
        (checkout / "file").write_bytes(content)
        _git(checkout, "add", "file")
        _git(checkout, "commit", "--quiet", "--message", "a")
    commit = _git(checkout, "rev-parse", "HEAD")
    _git(checkout, "worktree", "add", "--quiet", "--detach", str(worktree))
    (worktree / "COMMIT").write_text(f"{commit}\n")

    assert "the upload had .git, 2 MB" in (databricks.upload_advice(checkout, ON_DRIVER) or "")
    assert databricks.upload_advice(checkout, {}) is None
    assert _uploaded(checkout) > 2_000_000
    assert databricks.upload_advice(worktree, ON_DRIVER) is None
    assert _uploaded(worktree) < 10_000
    checkout.rename(tmp_path / "elsewhere")  # as on the driver, which has the upload only
    monkeypatch.setattr(git_state, "PROJECT", worktree)
    assert git_state.read_git_state() == (commit, False)
