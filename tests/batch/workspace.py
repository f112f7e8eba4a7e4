"""Run the step in this process, and read its files."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run

from slmflow.pipeline.step import run
from steps.batch import batch
from tests.measurement.models.logged import PROMPT


@dataclass(frozen=True)
class BatchWorkspace:
    """A folder of input and output files, and the experiment of the runs."""

    folder: Path
    experiment: str

    def batch(self, model_uri: str, input_name: str, output_name: str, *overrides: str) -> int:
        """Run the step on a file of the folder; return the exit status."""
        arguments = [
            f"batch.model_uri={model_uri}",
            f"batch.input={self.folder / input_name}",
            f"batch.output={self.folder / output_name}",
            *overrides,
        ]
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

    def write(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a JSONL file."""
        write_rows(self.folder / name, rows)

    def read(self, name: str) -> list[dict[str, Any]]:
        """Read a JSONL file."""
        return read_rows(self.folder / name)

    def save_echo_model(self) -> str:
        """Save the echo model in the folder; return its URI."""
        return save_echo_model(self.folder)

    def echo_log(self, name: str) -> list[str]:
        """Return the lines of a log of the echo model: `loads`, `calls` or `prompts`."""
        return read_lines(self.folder / name)


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a JSONL file."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in read_lines(file)]


def save_echo_model(folder: Path) -> str:
    """Save `echo_model.py`, which writes its logs to a folder; return its URI."""
    model = folder / "model"
    mlflow.pyfunc.save_model(
        model,
        python_model=str(Path(__file__).with_name("echo_model.py")),
        signature=PROMPT,
        pip_requirements=["mlflow"],
        model_config={"folder": str(folder)},
    )
    return str(model)


def read_lines(file: Path) -> list[str]:
    """Return the lines of a file, or none if it does not exist."""
    return file.read_text().splitlines() if file.exists() else []
