"""A tracking database, a store and temporary files that only the killed steps use."""

import os
from dataclasses import dataclass
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.errors import UserError
from slmflow.pipeline import runs


@dataclass(frozen=True)
class Sandbox:
    """A folder with a tracking database, a store and temporary files."""

    folder: Path

    @property
    def home(self) -> Path:
        """The store."""
        return self.folder / "home"

    @property
    def temp(self) -> Path:
        """The folder of temporary files."""
        return self.folder / "temp"

    @property
    def tracking_uri(self) -> str:
        """The URI of the tracking database."""
        return f"sqlite:///{self.folder}/mlflow.db"

    @property
    def client(self) -> MlflowClient:
        """A client of the tracking database."""
        return MlflowClient(self.tracking_uri)

    def activate(self) -> None:
        """Use the tracking database and the store in this process too."""
        self.temp.mkdir(parents=True, exist_ok=True)
        os.environ["SLMFLOW_HOME"] = str(self.home)
        mlflow.set_tracking_uri(self.tracking_uri)

    def newest_run(self, step: str) -> Run:
        """Return the newest finished run of a step. Raises UserError if there is none."""
        if not (finished := self._finished_runs(step)):
            raise UserError(f"{step} has no finished run")
        return finished[0]

    def has_finished(self, step: str) -> bool:
        """Return whether a step has a finished run."""
        return bool(self._finished_runs(step))

    def _finished_runs(self, step: str) -> list[Run]:
        query = f"tags.`{runs.STEP}` = '{step}' and attributes.status = 'FINISHED'"
        return list(self.client.search_runs(["0"], query, order_by=["start_time DESC"]))
