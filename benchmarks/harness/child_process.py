"""Check how a child process of the benchmarks ended."""

from collections.abc import Sequence

from slmflow.errors import UserError
from slmflow.system.child_processes import describe_exit


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
