"""Run the command of the config after a change of the registry, without a shell."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.registry.webhook import SECRET

TIMEOUT_S = 600


class CommandFailed(Exception):
    """A command that could not be started, took too long, or ended with another status than 0."""


def check(command: Sequence[str]) -> None:
    """Raise BadArguments if there is no such program."""
    program = Path(command[0])
    in_project = PROJECT / program  # an absolute path stays
    has_folder = len(program.parts) > 1
    found = os.access(in_project, os.X_OK) if has_folder else shutil.which(command[0])
    if not found:
        raise BadArguments(
            f"registry.command: there is no program {command[0]!r}; give one that is on PATH, or "
            "its path, absolute or from the project's folder"
        )


def run(command: Sequence[str], message: str, variables: Mapping[str, str]) -> None:
    """Run a command in the project's folder, with a message on its standard input.

    variables: added to its environment, from which the webhook's secret is removed. Its output goes
    to standard error. Raises CommandFailed.
    """
    environment = {**os.environ, **variables}
    environment.pop(SECRET, None)
    try:
        process = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=sys.__stderr__,
            stderr=sys.__stderr__,
            env=environment,
            cwd=PROJECT,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandFailed(f"{command[0]} cannot be started ({error})") from error
    with process:
        try:
            process.communicate(message.encode(), timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired as late:
            raise CommandFailed(f"{command[0]} took longer than {TIMEOUT_S} s") from late
        finally:
            if process.poll() is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise CommandFailed(f"{command[0]} ended with status {process.returncode}")
