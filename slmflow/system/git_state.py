"""Which state of the project's source a run was made with."""

import os
import re

from slmflow.paths import PROJECT

# Databricks gets the files without `.git`: `make export` lays the commit beside them, and the asset
# bundle, which cannot tell whether the working tree differed from it, puts it into the environment.
_EXPORTED = "COMMIT"
_DEPLOYED = "SLMFLOW_GIT_COMMIT"
_COMMIT = re.compile(r"([0-9a-f]{40})(-dirty)?")


def git_state() -> tuple[str, bool | None] | None:
    """Return the commit, 40 hexadecimal digits, and whether the working tree differs from it.

    Whether it differs is None where that is not known; all is None in a repository without a
    commit, and in an unpacked archive that nobody has given one.
    """
    return _of_repository() or _of_export() or _of_deployment()


def _of_repository() -> tuple[str, bool] | None:
    try:
        import git  # raises ImportError on a machine without the git command
    except ImportError:
        return None
    try:
        repository = git.Repo(PROJECT)
        return repository.head.commit.hexsha, repository.is_dirty(untracked_files=True)
    except (git.GitError, ValueError):
        return None


def _of_export() -> tuple[str, bool] | None:
    file = PROJECT / _EXPORTED
    described = file.read_text().strip() if file.is_file() else ""
    found = _COMMIT.fullmatch(described)
    return (found[1], found[2] is not None) if found else None


def _of_deployment() -> tuple[str, None] | None:
    found = _COMMIT.fullmatch(os.environ.get(_DEPLOYED, ""))
    return (found[1], None) if found else None


def content_at(commit: str, path: str) -> bytes | None:
    """Return what a file of the project held at a commit, None where that is not known here."""
    try:
        import git  # see _of_repository
    except ImportError:
        return None
    try:
        content: bytes = git.Repo(PROJECT).commit(commit).tree[path].data_stream.read()
    except (git.GitError, ValueError, KeyError):
        return None
    return content
