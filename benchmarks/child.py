"""Modules of the benchmarks as processes of their own, so that memory is theirs alone."""

import os
import signal
import sys
from collections.abc import Sequence

from steps.common.config import PROJECT
from steps.common.errors import UserError


def command(module: str, *arguments: object) -> list[str]:
    """Return the command line of `python -m benchmarks.MODULE`; call it with `environment()`."""
    return [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]


def environment() -> dict[str, str]:
    """Return the environment in which a child finds the project, wherever it is called from."""
    paths = [str(PROJECT), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "HF_HUB_OFFLINE": "1"}


def refuse_failure(line: Sequence[str], status: int) -> None:
    """Raise UserError unless a child that was called with `line` ended with status 0.

    Where it ended by itself it has shown its own message.
    """
    if status == 0:
        return
    what = " ".join(line[1:3])
    if status > 0:
        raise UserError(f"{what} failed", shown=True)
    name = signal.Signals(-status).name
    hint = ": the machine most likely ran out of memory" if name == "SIGKILL" else ""
    raise UserError(f"{what} was ended by {name}{hint}")
