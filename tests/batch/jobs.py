"""Run the step in this process, and read what it leaves."""

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
class Place:
    """A folder for files, and the experiment that has the runs."""

    folder: Path
    experiment: str

    def batch(self, model_uri: str, file: str, output: str, *overrides: str) -> int:
        """Answer a file of the folder; return the exit status."""
        arguments = [
            f"batch.model_uri={model_uri}",
            f"batch.input={self.folder / file}",
            f"batch.output={self.folder / output}",
            *overrides,
        ]
        return run("batch", batch, arguments, new_run={"experiment_id": self.experiment})

    def newest(self) -> Run:
        """Return the last run of a batch."""
        query = "tags.`slmflow.step` = 'batch'"
        found: Sequence[Run] = mlflow.search_runs(
            [self.experiment], query, output_format="list", order_by=["start_time DESC"]
        )
        return found[0]

    def names(self) -> set[str]:
        """Return what lies in the folder but the store."""
        return {file.name for file in self.folder.iterdir()} - {"home"}

    def write(self, name: str, rows: Sequence[dict[str, Any]]) -> None:
        """Write a JSONL file."""
        write_rows(self.folder / name, rows)

    def read(self, name: str) -> list[dict[str, Any]]:
        """Read a JSONL file."""
        return read_rows(self.folder / name)


def write_rows(file: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a JSONL file."""
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    return [json.loads(line) for line in file.read_text().splitlines()]


def listening(folder: Path) -> str:
    """Save `listening_model.py`, which notes what it does in a folder; return its address."""
    model = folder / "model"
    mlflow.pyfunc.save_model(
        model,
        python_model=str(Path(__file__).with_name("listening_model.py")),
        signature=PROMPT,
        pip_requirements=["mlflow"],
        model_config={"folder": str(folder)},
    )
    return str(model)


def lines(file: Path) -> list[str]:
    """Return the lines of a file, none where there is none."""
    return file.read_text().splitlines() if file.exists() else []
