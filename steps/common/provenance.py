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
