"""What is other inside a Databricks runtime, which its environment names.

A driver's home folder and the folder that a notebook lies in are no places for large files, and
what is tracked belongs to the workspace.
"""

import shutil
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

RUNTIME = "DATABRICKS_RUNTIME_VERSION"

# Mounts of object storage: files can be written from front to back, read and deleted, and no more.
MOUNTS = ("/Volumes", "/dbfs")


def scratch() -> Path:
    """Return slmflow's part of the machine's temporary folder."""
    return Path(tempfile.gettempdir()) / "slmflow"


def is_mounted(path: Path) -> bool:
    """Return whether a path lies in object storage, where nothing can be renamed or locked."""
    return any(path.is_relative_to(mount) for mount in MOUNTS)


def put(made: Path, place: Path) -> None:
    """Move a finished file to its place, whole or not at all.

    Object storage knows no move: there it is copied, and a copy that is broken off leaves what
    came of it.
    """
    if not is_mounted(place):
        made.replace(place)
        return
    shutil.copyfile(made, place)
    made.unlink()


def settle_in(environ: MutableMapping[str, str]) -> None:
    """Fill in an environment so that a step, and all it starts, keeps to the driver's scratch.

    What is set already stays as it is. Outside a Databricks runtime nothing changes.
    """
    if RUNTIME not in environ:
        return
    defaults = {
        "MLFLOW_TRACKING_URI": "databricks",  # and with it the registry is databricks-uc
        "SLMFLOW_HOME": str(scratch() / "store"),
        "XDG_CACHE_HOME": str(scratch() / "cache"),  # the hub's client, uv
        "MPLCONFIGDIR": str(scratch() / "matplotlib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name, value in defaults.items():
        environ.setdefault(name, value)
    sys.dont_write_bytecode = True
