"""The tracking servers whose runs use the store, so that pruning can ask each of them.

Several users share a store, and each may have another server. `<store>/servers/` has one file for
each pair of a tracking server and a model registry, without user names and passwords.
"""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import mlflow

from slmflow.errors import UserError
from slmflow.pipeline import store, tracking_server

_NO_FILES = ("databricks", "databricks-uc", "uc")


@dataclass(frozen=True)
class Servers:
    """The URIs of a tracking server and of the registry beside it."""

    tracking: str
    registry: str

    @classmethod
    def current(cls) -> "Servers":
        """Return the servers that this process uses, with any credentials in their URIs."""
        return cls(_absolute(mlflow.get_tracking_uri()), _absolute(mlflow.get_registry_uri()))

    @property
    def public(self) -> "Servers":
        """The same servers without credentials."""
        return Servers(*(re.sub(r"//[^/@\s]*@", "//", uri) for uri in asdict(self).values()))

    @property
    def is_gone(self) -> bool:
        """Whether the tracking server was a file or a folder that no longer exists.

        Raises PermissionError if this user cannot tell.
        """
        path = _local_path(self.tracking)
        try:
            return path is not None and not path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return True


def note() -> None:
    """Note in the store that the servers of this process use it, if it can be written."""
    if store.is_read_only():
        return
    with suppress(OSError, UserError):
        public = Servers.current().public
        name = hashlib.sha256(json.dumps(asdict(public)).encode()).hexdigest()[:16]
        file = _folder() / f"{name}.json"
        if not file.exists():
            store.make_folder(file.parent)
            store.replace_text(file, json.dumps(asdict(public), indent=2))


def others() -> list[tuple[Servers, Path]]:
    """Return the other servers that used the store, each with the file that names it.

    Raises UserError for a file that cannot be read.
    """
    current = Servers.current().public
    found = [(_read(file), file) for file in sorted(_folder().glob("*.json"))]
    return [(servers, file) for servers, file in found if servers != current]


def _local_path(uri: str) -> Path | None:
    """Return the file or folder of a server without a process; None for another one."""
    if (file := tracking_server.database_file(uri)) is not None:
        return file
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file") or uri in _NO_FILES:
        return None
    return Path(unquote(parts.path))


def _absolute(uri: str) -> str:
    path = _local_path(uri)
    if path is None or path.is_absolute():
        return uri
    prefix = "sqlite:///" if uri.startswith("sqlite:") else ""
    return f"{prefix}{path.absolute()}"


def _read(file: Path) -> Servers:
    try:
        content = json.loads(file.read_bytes())
        return Servers(str(content["tracking"]), str(content["registry"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise UserError(
            f"{file} does not name a tracking server ({error}): it says which server's runs use "
            "the store; remove it if that server is gone"
        ) from error


def _folder() -> Path:
    return store.workspace() / "servers"
