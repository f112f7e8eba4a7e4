"""Where the project lies, and what is at a path, whoever gave it."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONF = PROJECT / "conf"


def is_file(path: Path) -> bool:
    """Return whether there is a file: not where the path cannot be one, or may not be looked at."""
    try:
        return path.is_file()
    except OSError:  # too long, or in a folder of someone else's
        return False


def is_folder(path: Path) -> bool:
    """Return whether there is a folder, as `is_file` does."""
    try:
        return path.is_dir()
    except OSError:
        return False
