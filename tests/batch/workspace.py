"""Files of batch jobs, the echo model, and the step in this process."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from slmflow.pipeline.step_runner import run
from steps.batch import batch
from tests.measurement.models.logged import PROMPT


@dataclass(frozen=True)
class BatchFolder:
    """A folder of input and output files, and of the echo model and its logs."""

    folder: Path

    def write(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a JSONL file."""
        (self.folder / name).write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    def read(self, name: str) -> list[dict[str, Any]]:
        """Read a JSONL file."""
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def arguments(self, model_uri: str, input_name: str, output_name: str) -> list[str]:
        """Return the arguments of the step for files of the folder."""
        return [
            f"batch.model_uri={model_uri}",
            f"batch.input={self.folder / input_name}",
            f"batch.output={self.folder / output_name}",
        ]

    def save_echo_model(self) -> str:
        """Save `echo_model.py`, which writes its logs to the folder; return its URI."""
        model = self.folder / "model"
        mlflow.pyfunc.save_model(
            model,
            python_model=str(Path(__file__).with_name("echo_model.py")),
            signature=PROMPT,
            pip_requirements=["mlflow"],
            model_config={"folder": str(self.folder)},
        )
        return str(model)

    def echo_log(self, name: str) -> list[str]:
        """Return the lines of a log of the echo model: `loads`, `calls` or `prompts`."""
        log = self.folder / name
        return log.read_text().splitlines() if log.exists() else []


@dataclass(frozen=True)
class BatchWorkspace(BatchFolder):
    """A folder of batch jobs, and the experiment of their runs."""

    experiment: str

    def batch(self, model_uri: str, input_name: str, output_name: str, *overrides: str) -> int:
        """Run the step on a file of the folder; return the exit status."""
        arguments = [*self.arguments(model_uri, input_name, output_name), *overrides]
        return run("batch", batch, arguments, new_run={"experiment_id": self.experiment})

    def newest_run(self) -> Run:
        """Return the newest run of the step."""
        query = "tags.`slmflow.step` = 'batch'"
        runs: Sequence[Run] = mlflow.search_runs(
            [self.experiment], query, output_format="list", order_by=["start_time DESC"]
        )
        return runs[0]

    def file_names(self) -> set[str]:
        """Return the names in the folder, without the store's."""
        return {file.name for file in self.folder.iterdir()} - {"home"}
