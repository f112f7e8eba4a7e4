"""Which state of the project's source a run was made with."""

from steps.common.paths import PROJECT


def git_state() -> tuple[str, bool] | None:
    """Return the commit, 40 hexadecimal digits, and whether the working tree differs from it.

    None without git, in an unpacked archive, or in a repository without a commit.
    """
    try:
        import git  # raises ImportError on a machine without the git command
    except ImportError:
        return None
    try:
        repository = git.Repo(PROJECT)
        return repository.head.commit.hexsha, repository.is_dirty(untracked_files=True)
    except (git.GitError, ValueError):
        return None


def content_at(commit: str, path: str) -> bytes | None:
    """Return what a file of the project held at a commit, None where that is not known here."""
    try:
        import git  # as above
    except ImportError:
        return None
    try:
        content: bytes = git.Repo(PROJECT).commit(commit).tree[path].data_stream.read()
    except (git.GitError, ValueError, KeyError):
        return None
    return content
