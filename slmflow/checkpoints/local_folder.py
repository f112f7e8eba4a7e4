"""Copy a checkpoint from a local folder, bundled with the project or the user's own."""

from collections.abc import Callable, Collection
from pathlib import Path

from slmflow.checkpoints import files
from slmflow.console import progress_bars
from slmflow.errors import UserError
from slmflow.pipeline import digests, store

SelectNames = Callable[[Collection[str], str], list[str]]
"""Selects the files to copy, as `files.select` does."""


def copy(source: Path, target: Path, model: str, select: SelectNames = files.select) -> None:
    """Copy the checkpoint files of a folder; `model` is the name in messages.

    Raises UserError if the files are not a checkpoint, are unreadable, or are links out of the
    folder.
    """
    try:
        found = [*source.iterdir(), *source.glob(f"{files.TEMPLATES_FOLDER}/*")]
        names = select([file.relative_to(source).as_posix() for file in found], model)
        paths = [_resolve_inside(source, name, model) for name in names]
        sizes = {name: path.stat().st_size for name, path in zip(names, paths, strict=True)}
        files.check_sizes(sizes, model)
        total = sum(sizes.values())
        store.require_free_space(total, model, target)
        with progress_bars.byte_bar() as progress:
            task = progress.add_task(source.name, total=total)
            for name, path in zip(names, paths, strict=True):
                (target / name).parent.mkdir(exist_ok=True)
                with path.open("rb") as reader:
                    digests.copy(progress.wrap_file(reader, task_id=task), target / name)
    except OSError as error:
        raise UserError(
            f"{model} cannot be copied to the store: {error.strerror} "
            f"({error.filename or target}): check that the files are readable and that "
            "SLMFLOW_HOME is a folder with enough space"
        ) from error


def _resolve_inside(folder: Path, name: str, model: str) -> Path:
    """Return the real path of a file. Raises UserError for a link out of the folder."""
    path = (folder / name).resolve()
    if not path.is_file() or not path.is_relative_to(folder.resolve()):
        raise UserError(
            f"{name} of {model} points to {path}, which is not a file in this folder: "
            "copy the model with links resolved (cp -rL) and use the copy"
        )
    return path
