"""Where the project is, and file checks for paths from users."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONF = PROJECT / "conf"


def is_file(path: Path) -> bool:
    """Return whether a file exists; false if the path is invalid or may not be read."""
    try:
        return path.is_file()
    except OSError:  # too long, or in a folder of another user
        return False


def is_folder(path: Path) -> bool:
    """Return whether a folder exists; false if the path is invalid or may not be read."""
    try:
        return path.is_dir()
    except OSError:
        return False
