"""The git commit of the project, in a repository and without one."""

from pathlib import Path

import git
import pytest

from slmflow.system import git_state

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(git_state, "PROJECT", tmp_path)
    return tmp_path


def test_unpacked_archive_has_no_commit(project: Path) -> None:
    assert git_state.read_git_state() is None


@pytest.mark.parametrize("text", ["", "main", "$Format:%H$", SHA[:7], f"{SHA} -dirty"])
def test_invalid_commit_is_ignored(
    project: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (project / "COMMIT").write_text(text)
    monkeypatch.setenv("SLMFLOW_GIT_COMMIT", text)
    assert git_state.read_git_state() is None


@pytest.mark.parametrize(("suffix", "dirty"), [("", False), ("-dirty", True)])
def test_export_has_its_commit_in_a_file(project: Path, suffix: str, dirty: bool) -> None:
    (project / "COMMIT").write_text(f"{SHA}{suffix}\n")
    assert git_state.read_git_state() == (SHA, dirty)


def test_deployed_bundle_has_its_commit_in_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_GIT_COMMIT", SHA)
    assert git_state.read_git_state() == (SHA, None)


def test_repository_takes_precedence(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_GIT_COMMIT", SHA)
    with git.Repo.init(project) as repository:
        assert git_state.read_git_state() == (SHA, None)
        (project / "file").write_text("one")
        repository.index.add(["file"])
        someone = git.Actor("A", "a@example.com")
        commit = repository.index.commit("Begin", author=someone, committer=someone)
        assert git_state.read_git_state() == (commit.hexsha, False)
        (project / "file").write_text("two")
        assert git_state.read_git_state() == (commit.hexsha, True)
