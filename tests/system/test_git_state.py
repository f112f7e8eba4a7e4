"""Which commit a run notes, in a repository and where the files came without one."""

from pathlib import Path

import git
import pytest

from slmflow.system import git_state

SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(git_state, "PROJECT", tmp_path)
    return tmp_path


def test_nothing_is_known_of_an_unpacked_archive(project: Path) -> None:
    assert git_state.read_git_state() is None


@pytest.mark.parametrize("written", ["", "main", "$Format:%H$", SHA[:7], f"{SHA} -dirty"])
def test_what_is_no_commit_is_none(
    project: Path, monkeypatch: pytest.MonkeyPatch, written: str
) -> None:
    (project / "COMMIT").write_text(written)
    monkeypatch.setenv("SLMFLOW_GIT_COMMIT", written)
    assert git_state.read_git_state() is None


@pytest.mark.parametrize(("suffix", "dirty"), [("", False), ("-dirty", True)])
def test_an_export_has_it_beside_its_files(project: Path, suffix: str, dirty: bool) -> None:
    (project / "COMMIT").write_text(f"{SHA}{suffix}\n")
    assert git_state.read_git_state() == (SHA, dirty)


def test_a_deployed_bundle_does_not_know_of_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_GIT_COMMIT", SHA)
    assert git_state.read_git_state() == (SHA, None)


def test_a_repository_knows_best(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_GIT_COMMIT", SHA)
    with git.Repo.init(project) as repository:
        assert git_state.read_git_state() == (SHA, None)
        (project / "file").write_text("one")
        repository.index.add(["file"])
        someone = git.Actor("A", "a@example.com")
        made = repository.index.commit("Begin", author=someone, committer=someone)
        assert git_state.read_git_state() == (made.hexsha, False)
        (project / "file").write_text("two")
        assert git_state.read_git_state() == (made.hexsha, True)
