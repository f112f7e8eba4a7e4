"""Run the project as a user does: `mlflow run`, and the steps by hand, each in its own process."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from steps.common.paths import PROJECT

_BIN = Path(sys.executable).parent


@dataclass(frozen=True)
class Workplace:
    """A folder to call from, with a tracking database and a store of its own."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)  # what all calls printed

    @property
    def client(self) -> MlflowClient:
        """A client of the tracking database."""
        return MlflowClient(f"sqlite:///{self.folder}/mlflow.db")

    def mlflow_run(self, *arguments: str, manager: str = "local") -> "Done":
        """Call `mlflow run PROJECT --env-manager MANAGER ARGUMENTS...`."""
        command = [str(_BIN / "mlflow"), "run", str(PROJECT), "--env-manager", manager]
        return self._call([*command, *arguments])

    def step(self, name: str, *arguments: str) -> "Done":
        """Call `python -m steps.NAME ARGUMENTS...`, here: no `mlruns` is left there."""
        return self._call([sys.executable, "-m", f"steps.{name}", *arguments])

    def shell(self, command: str, cwd: Path | None = None) -> "Done":
        """Call a line that a user would type."""
        return self._call(["bash", "-c", command], cwd)

    def runs(self, step: str) -> list[Run]:
        """Return the runs of a step, the newest first."""
        query = f"tags.`slmflow.step` = '{step}'"
        return list(self.client.search_runs(["0"], query, order_by=["start_time DESC"]))

    def environ(self) -> dict[str, str]:
        """Return the environment that the project is called with."""
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        return {
            **os.environ,
            "TMPDIR": str(scratch),
            "PYTHONPATH": str(PROJECT),
            "PATH": f"{_BIN}{os.pathsep}{os.environ['PATH']}",
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "SLMFLOW_HOME": str(self.folder / "home"),
            "HF_ENDPOINT": "http://127.0.0.1:9",  # nobody listens there
            **self.environment,
        }

    def _call(self, command: list[str], cwd: Path | None = None) -> "Done":
        done = subprocess.run(
            command, cwd=cwd or self.folder, env=self.environ(), capture_output=True, text=True
        )
        self.said.extend((done.stdout, done.stderr))
        return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Done:
    """How a call ended."""

    status: int
    output: str
    errors: str

    @property
    def messages(self) -> list[str]:
        """The messages meant for the user: lines that begin with `error:`."""
        return [line for line in self.errors.splitlines() if line.startswith("error:")]
