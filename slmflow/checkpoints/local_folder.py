"""A model in a folder of this machine: one bundled with the project, or the user's own."""

import shutil
from pathlib import Path

from slmflow.checkpoints import files
from slmflow.console import messages
from slmflow.errors import UserError


def copy(source: Path, target: Path, model: str) -> None:
    """Copy the files of a model from one folder to another; `model` is its name in messages.

    Raises UserError where the files do not make a model, cannot be read, or lead out of the
    folder.
    """
    try:
        names = files.choose([file.name for file in source.iterdir()], model)
        originals = [_inside(source, name, model) for name in names]
        sizes = {
            name: original.stat().st_size for name, original in zip(names, originals, strict=True)
        }
        files.refuse_oversized(sizes, model)
        total = sum(sizes.values())
        _require_room(total, target, model)
        with messages.transferring() as progress:
            task = progress.add_task(source.name, total=total)
            for name, original in zip(names, originals, strict=True):
                with original.open("rb") as read, (target / name).open("wb") as written:
                    shutil.copyfileobj(progress.wrap_file(read, task_id=task), written)
    except OSError as error:
        raise UserError(
            f"{model} cannot be copied to the store: {error.strerror} "
            f"({error.filename or target}); see that "
            "the files may be read and that SLMFLOW_HOME is a folder with room"
        ) from error


def _require_room(total: int, target: Path, model: str) -> None:
    if total > (free := shutil.disk_usage(target).free):
        raise UserError(
            f"{model} has {total / 1e6:,.1f} MB, but the store has room for {free / 1e6:,.1f} MB: "
            "set SLMFLOW_HOME to a folder with more"
        )


def _inside(folder: Path, name: str, model: str) -> Path:
    """Return the real path of a file. Raises UserError for a link out of the folder."""
    real = (folder / name).resolve()
    if not real.is_file() or not real.is_relative_to(folder.resolve()):
        raise UserError(
            f"{name} of {model} leads to {real}, which is no file of this folder: "
            "copy the model with its links followed (cp -rL) and give the copy"
        )
    return real
