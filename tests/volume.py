"""A folder that behaves as a Databricks Volume, for the rest of a process."""

import errno
import os
import sys
from typing import Any

from steps.common import databricks

_RENAMED = ("os.rename", "os.link", "os.symlink", "os.truncate", "os.chmod")


def behave(volume: str) -> None:
    """Refuse below a folder what a Volume refuses of what Python asks of it, as its users report.

    Rename and link (ENOSYS), appending, writing in place.
    """

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        paths = [str(a) for a in arguments[:2] if isinstance(a, str | os.PathLike)]
        below = any(path.startswith(volume) for path in paths)
        if below and event in _RENAMED:
            raise OSError(errno.ENOSYS, "Function not implemented", paths[0])
        if below and event == "open" and arguments[2] & (os.O_APPEND | os.O_RDWR):
            raise OSError(errno.EOPNOTSUPP, "Operation not supported", paths[0])

    sys.addaudithook(refuse)
    databricks.MOUNTS = (volume,)
