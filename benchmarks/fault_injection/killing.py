"""Start a step as a process of its own, and end it from outside at some moment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mlflow
import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.errors import UserError
from slmflow.pipeline import runs
from slmflow.system import child_processes


@dataclass(frozen=True)
class Place:
    """A folder with a tracking database, a store and temporary files of its own."""

    folder: Path

    @property
    def home(self) -> Path:
        """The store."""
        return self.folder / "home"

    @property
    def temp(self) -> Path:
        """Where temporary files go."""
        return self.folder / "temp"

    @property
    def client(self) -> MlflowClient:
        """A client of the tracking database."""
        return MlflowClient(self.tracking_uri)

    @property
    def tracking_uri(self) -> str:
        """The address of the tracking database."""
        return f"sqlite:///{self.folder}/mlflow.db"

    def use(self) -> None:
        """Let this process look there too."""
        self.temp.mkdir(parents=True, exist_ok=True)
        os.environ["SLMFLOW_HOME"] = str(self.home)
        mlflow.set_tracking_uri(self.tracking_uri)

    def newest(self, step: str) -> Run:
        """Return the newest finished run of a step. Raises UserError where there is none."""
        if not (found := self._finished(step)):
            raise UserError(f"{step} has no finished run")
        return found[0]

    def has(self, step: str) -> bool:
        """Return whether a step has a finished run."""
        return bool(self._finished(step))

    def _finished(self, step: str) -> list[Run]:
        query = f"tags.`{runs.STEP}` = '{step}' and attributes.status = 'FINISHED'"
        return list(self.client.search_runs(["0"], query, order_by=["start_time DESC"]))


class Process:
    """A step under way in a session of its own; what it prints goes to a file."""

    def __init__(self, place: Place, step: str, overrides: Sequence[str]) -> None:
        """Start it."""
        self._log = place.folder / "log.txt"
        environment = child_processes.environment(
            MLFLOW_TRACKING_URI=place.tracking_uri,
            SLMFLOW_HOME=str(place.home),
            TMPDIR=str(place.temp),
            PATH=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        )
        with self._log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"steps.{step}", *overrides],
                cwd=place.folder,
                env=environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def finish(self) -> None:
        """Wait for its end. Raises UserError, with what it printed, unless it ends well."""
        if status := self._process.wait():
            raise UserError(f"it ended with status {status}:\n{self._log.read_text()}")

    def kill_at(self, seconds: float, *, all_of_it: bool) -> bool:
        """Kill it, or its whole session, after some seconds; return False if it was done before."""
        time.sleep(seconds)
        if self._process.poll() is not None:
            return False
        if all_of_it:
            os.killpg(self._process.pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        return True

    def left(self, seconds: float) -> list[str]:
        """Return the command lines of those of its processes that do not end within some time."""
        session = [each for each in psutil.process_iter() if self._has(each)]
        return [" ".join(each.cmdline()) for each in psutil.wait_procs(session, seconds)[1]]

    def _has(self, process: psutil.Process) -> bool:
        try:
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and os.getsid(process.pid) == self._process.pid
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False
