"""Run a step in its own process and kill it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks.fault_injection.sandbox import Sandbox
from slmflow.errors import UserError
from slmflow.system import child_processes


class StepProcess:
    """A running step in its own session; its output goes to a file."""

    def __init__(self, sandbox: Sandbox, step: str, overrides: Sequence[str]) -> None:
        """Start the step."""
        self._log = sandbox.folder / "log.txt"
        environment = child_processes.environment(
            MLFLOW_TRACKING_URI=sandbox.tracking_uri,
            SLMFLOW_HOME=str(sandbox.home),
            TMPDIR=str(sandbox.temp),
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        )
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"steps.{step}", *overrides],
                cwd=sandbox.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Wait for the step. Raises UserError, with its output, if it fails."""
        if status := self._process.wait():
            raise UserError(f"the step exited with status {status}:\n{self._log.read_text()}")

    def kill_after(self, seconds: float, *, whole_session: bool) -> bool:
        """Kill the process, or its whole session; return False if it exits before that."""
        time.sleep(seconds)
        if self._process.poll() is not None:
            return False
        if whole_session:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        return True

    def surviving_commands(self, timeout: float) -> list[str]:
        """Return the command lines of processes of the session that outlive the timeout (s)."""
        alive = surviving_processes(self._process.pid, timeout)
        return [" ".join(process.cmdline()) for process in alive]


def surviving_processes(session: int, timeout: float) -> list[psutil.Process]:
    """Return the processes of a session that do not end within the timeout (s)."""

    def is_member(process: psutil.Process) -> bool:
        try:
            is_zombie = process.status() == psutil.STATUS_ZOMBIE
            return not is_zombie and os.getsid(process.pid) == session
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False

    members = filter(is_member, psutil.process_iter())
    alive: list[psutil.Process] = psutil.wait_procs(members, timeout)[1]
    return alive
