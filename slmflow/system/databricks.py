"""Differences inside a Databricks runtime.

The driver's home folder and the notebook's folder are no places for large files, and runs belong
in the workspace's tracking server.
"""

import shutil
import sys
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

RUNTIME = "DATABRICKS_RUNTIME_VERSION"
"""The environment variable that marks a Databricks runtime."""

# Mounts of object storage: files can only be written sequentially, read and deleted.
MOUNTS = ("/Volumes", "/dbfs")

# The workspace's own files, such as Git folders, which no client uploads.
_WORKSPACE = "/Workspace"


def scratch_folder() -> Path:
    """Return slmflow's part of the machine's temporary folder."""
    return Path(tempfile.gettempdir()) / "slmflow"


def is_object_storage(path: Path) -> bool:
    """Return whether a path is on object storage, which has no rename and no locks."""
    return any(path.is_relative_to(mount) for mount in MOUNTS)


def move_file(source: Path, target: Path) -> None:
    """Move a finished file to its target, atomically except on object storage.

    There it is copied, and an interrupted copy leaves a partial file.
    """
    if not is_object_storage(target):
        source.replace(target)
        return
    shutil.copyfile(source, target)
    source.unlink()


def upload_advice(project: Path, environ: Mapping[str, str]) -> str | None:
    """Return how to upload less, if the project of a job was uploaded with its git repository.

    MLflow's client leaves out nothing but `mlruns`, and no code of the project runs before it.
    """
    repository = project / ".git"
    if RUNTIME not in environ or project.is_relative_to(_WORKSPACE) or not repository.is_dir():
        return None
    size = sum(file.stat().st_size for file in repository.rglob("*") if file.is_file())
    return (
        f"the upload had .git, {size / 1e6:,.0f} MB: `make databricks` or a git worktree leaves it "
        "out (docs/databricks.md)"
    )


def set_default_environment(environ: MutableMapping[str, str]) -> None:
    """Set defaults in an environment so that a step and its children use the scratch folder.

    Variables that are already set stay. Does nothing outside a Databricks runtime.
    """
    if RUNTIME not in environ:
        return
    defaults = {
        "MLFLOW_TRACKING_URI": "databricks",  # implies the registry databricks-uc
        "SLMFLOW_HOME": str(scratch_folder() / "store"),
        "XDG_CACHE_HOME": str(scratch_folder() / "cache"),  # of the hub's client and uv
        "MPLCONFIGDIR": str(scratch_folder() / "matplotlib"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name, value in defaults.items():
        environ.setdefault(name, value)
    sys.dont_write_bytecode = True
