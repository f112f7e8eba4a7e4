"""Measure a flavor in a process of its own, so that memory and load time are its alone."""

import dataclasses
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import mlflow
from rich.progress import Progress, TaskID

from steps.common import child, console
from steps.common.errors import UserError
from steps.common.results import LoggedModel
from steps.common.rows import Row
from steps.evaluate.measurement import Answer, Measurement


def measure(model: LoggedModel, rows: Sequence[Row]) -> Measurement:
    """Return what `steps.evaluate.worker` measures of the model, with a progress bar meanwhile.

    Raises UserError, naming the flavor and the last line of its error, where the process fails.
    """
    job = {"model_uri": model.model_uri, "rows": [dataclasses.asdict(row) for row in rows]}
    with tempfile.TemporaryDirectory() as scratch, console.counting() as progress:
        Path(scratch, "job.json").write_text(json.dumps(job))
        with _worker(Path(scratch)) as process:
            measured = _follow(process.stdout or (), progress, model.flavor, len(rows))
        if measured is None:
            log = Path(scratch, "log").read_text(errors="replace")
            reason = child.why_ended(process.returncode, log)
            raise UserError(
                f"the {model.flavor} model {model.model_uri} could not be measured: {reason}"
            ) from RuntimeError(log)
    return measured


@contextmanager
def _worker(scratch: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the worker on `job.json`, its chatter going to `log`; it has ended when this is left."""
    environment = child.environment(
        MLFLOW_TRACKING_URI=mlflow.get_tracking_uri(),
        TMPDIR=str(scratch),  # a copy of a model from a remote server goes with this folder
    )
    with (
        (scratch / "log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "steps.evaluate.worker", str(scratch / "job.json")],
            stdout=subprocess.PIPE,
            stderr=log,
            env=environment,
            text=True,
        ) as process,
    ):
        try:
            yield process
            process.wait()
        finally:
            process.kill()


def _follow(
    lines: Iterable[str], progress: Progress, flavor: str, total: int
) -> Measurement | None:
    """Show the worker's progress; return its measurement, or None if it ends without."""
    loading = progress.add_task(f"{flavor} loads", total=None)
    stages: dict[str, TaskID] = {}
    for line in lines:
        message = json.loads(line)
        if measured := message.get("measurement"):
            answers = tuple(Answer(**answer) for answer in measured.pop("answers"))
            return Measurement(**measured, answers=answers)
        progress.update(loading, visible=False)
        stage = message["stage"]
        if stage not in stages:
            stages[stage] = progress.add_task(f"{flavor} {stage}", total=total)
        progress.update(stages[stage], completed=message["done"])
    return None
