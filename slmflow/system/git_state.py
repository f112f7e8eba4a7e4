"""The git commit of the project."""

import os
import re

from slmflow.paths import PROJECT

# Databricks gets the files without `.git`: `make export` writes the commit to a file; the asset
# bundle, which cannot tell whether the working tree differs, sets an environment variable.
_EXPORTED_FILE = "COMMIT"
_DEPLOYED_VARIABLE = "SLMFLOW_GIT_COMMIT"
_COMMIT = re.compile(r"([0-9a-f]{40})(-dirty)?")


def read_git_state() -> tuple[str, bool | None] | None:
    """Return the commit, 40 hexadecimal digits, and whether the working tree differs from it.

    Whether it differs is None if unknown. All is None in a repository without a commit, and in an
    unpacked archive without a commit file.
    """
    return _from_repository() or _from_export() or _from_deployment()


def _from_repository() -> tuple[str, bool] | None:
    try:
        import git  # raises ImportError on a machine without the git command
    except ImportError:
        return None
    try:
        repository = git.Repo(PROJECT)
        return repository.head.commit.hexsha, repository.is_dirty(untracked_files=True)
    except (git.GitError, ValueError):
        return None


def _from_export() -> tuple[str, bool] | None:
    file = PROJECT / _EXPORTED_FILE
    match = _COMMIT.fullmatch(file.read_text().strip() if file.is_file() else "")
    return (match[1], match[2] is not None) if match else None


def _from_deployment() -> tuple[str, None] | None:
    match = _COMMIT.fullmatch(os.environ.get(_DEPLOYED_VARIABLE, ""))
    return (match[1], None) if match else None


def file_at_commit(commit: str, path: str) -> bytes | None:
    """Return the content of a project file at a commit; None if unknown on this machine."""
    try:
        import git  # see _from_repository
    except ImportError:
        return None
    try:
        content: bytes = git.Repo(PROJECT).commit(commit).tree[path].data_stream.read()
    except (git.GitError, ValueError, KeyError):
        return None
    return content
