"""Run a module of the benchmarks in a child process, so that memory is that of the module alone."""

from collections.abc import Sequence

from benchmarks.harness.installation import CURRENT
from slmflow.errors import UserError
from slmflow.system.child_processes import describe_exit


def module_command(module: str, *arguments: object) -> list[str]:
    """Return the command of `python -m benchmarks.MODULE` with arguments."""
    return CURRENT.command(module, *arguments)


def check_exit(command: Sequence[str], status: int) -> None:
    """Raise UserError unless a child process exited with status 0.

    A child that exited by itself has shown its own message.
    """
    if status == 0:
        return
    module = command.index("-m")
    name = " ".join(command[module : module + 2])
    if status > 0:
        raise UserError(f"{name} failed", shown=True)
    raise UserError(f"{name}: {describe_exit(status, log='')}")
