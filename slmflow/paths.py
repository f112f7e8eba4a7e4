"""Where the project is, and file checks for paths from users."""

import re
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
CONF = PROJECT / "conf"

_TEMPORARY = tempfile.gettempdir()  # now, because a step replaces it with a private folder


_URI = re.compile(r"[a-z][a-z0-9+.-]+:/(?!$)", re.IGNORECASE)


def is_uri(value: str) -> bool:
    """Return whether a value is a URI, such as `s3://...` or `runs:/...`, and no path."""
    return _URI.match(value) is not None


def is_temporary_clone() -> bool:
    """Return whether the project is the clone that `mlflow run` of a git address makes."""
    return (
        PROJECT.parent == Path(_TEMPORARY).resolve()
        and PROJECT.name.startswith(tempfile.gettempprefix())
        and (PROJECT / ".git").exists()
    )


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
