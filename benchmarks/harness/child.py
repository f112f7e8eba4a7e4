"""Modules of the benchmarks as processes of their own, so that memory is theirs alone."""

import sys
from collections.abc import Sequence

from slmflow.errors import UserError
from slmflow.system.child_processes import why_ended


def command(module: str, *arguments: object) -> list[str]:
    """Return the command line of `python -m benchmarks.MODULE`."""
    return [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]


def refuse_failure(line: Sequence[str], status: int) -> None:
    """Raise UserError unless a child that was called with `line` ended with status 0.

    Where it ended by itself it has shown its own message.
    """
    if status == 0:
        return
    what = " ".join(line[1:3])
    if status > 0:
        raise UserError(f"{what} failed", shown=True)
    raise UserError(f"{what}: {why_ended(status, log='')}")
