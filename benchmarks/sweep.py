"""Measure a sweep of 12 points beside one run of the whole workflow, each with nothing made before.

python -m benchmarks.sweep --rounds 2 --output docs/sweeps
python -m benchmarks.sweep --rounds 1 --limit 3 --output trial

Both are `mlflow run` of the bundled model, in turns. Writes sweep.md, sweep.json (every raw value)
and the plots of the last sweep to the output folder. Nothing else should compute meanwhile.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from benchmarks.harness.child import refuse_failure
from benchmarks.harness.command_line import parser, run
from slmflow.console import messages
from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.system import child_processes, machine

OVER = ("target=cpu_fp32,cpu_int8,cpu_int4", "generation.temperature=0.0,0.3,0.7,1.0")
POINTS = 12
PLOTS = ("front.png", "parallel.png")


@dataclass(frozen=True)
class Round:
    """Seconds of one round: of `main`, of the sweep, and of the runs that a sweep consists of."""

    main_s: float
    sweep_s: float
    work_s: float

    @property
    def ratio(self) -> float:
        """How many times as long as `main` the sweep takes."""
        return self.sweep_s / self.main_s

    @property
    def overhead_s(self) -> float:
        """What the sweep takes for each point beyond the runs that it consists of."""
        return (self.sweep_s - self.work_s) / POINTS


def measure(limit: int | None, plots: Path) -> Round:
    """Run both, each in an empty store; copy the sweep's plots to a folder.

    limit: of rows. Raises UserError where one of them fails.
    """
    rows = [] if limit is None else [f"evaluation.limit={limit}"]
    with tempfile.TemporaryDirectory() as main, tempfile.TemporaryDirectory() as sweep:
        main_s = _timed("main", rows, Path(main))
        sweep_s = _timed("sweep", [*rows, *OVER], Path(sweep))
        client = MlflowClient(_tracking(Path(sweep)))
        [whole] = client.search_runs(["0"], "tags.`slmflow.step` = 'sweep'")
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{whole.info.run_id}'"
        work_s = sum(map(_seconds, client.search_runs(["0"], query)))
        for plot in PLOTS:
            shutil.copy(client.download_artifacts(whole.info.run_id, plot, sweep), plots / plot)
    return Round(main_s, sweep_s, work_s)


def _timed(entry: str, overrides: list[str], folder: Path) -> float:
    """Return the seconds that `mlflow run` takes with its database and store in a folder."""
    mlflow = str(Path(sys.executable).parent / "mlflow")
    chosen = [part for override in overrides for part in ("-P", override)]
    line = [mlflow, "run", str(PROJECT), "-e", entry, "--env-manager", "local", *chosen]
    environment = child_processes.environment(
        MLFLOW_TRACKING_URI=_tracking(folder), SLMFLOW_HOME=str(folder / "home")
    )
    del environment["HF_HUB_OFFLINE"]
    environment["PATH"] = os.pathsep.join([str(Path(mlflow).parent), environment["PATH"]])
    started = time.perf_counter()
    refuse_failure(line, subprocess.call(line, env=environment, cwd=folder))
    return time.perf_counter() - started


def _tracking(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def _seconds(run: Run) -> float:
    return float(run.info.end_time - run.info.start_time) / 1e3


def markdown(rounds: list[Round]) -> str:
    """Return the medians and all rounds as a page."""
    lines = [
        f"On {machine.description()}, `{'` and `'.join(OVER)}` ({POINTS} points) of the bundled "
        "model, with an empty store each time:",
        "",
        "| round | `main`, s | sweep, s | sweep to `main` | beyond its work, s a point |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {number} | {each.main_s:.0f} | {each.sweep_s:.0f} | {each.ratio:.2f} | "
            f"{each.overhead_s:.1f} |"
            for number, each in enumerate(rounds, 1)
        ),
        f"| median | {median(r.main_s for r in rounds):.0f} "
        f"| {median(r.sweep_s for r in rounds):.0f} | **{median(r.ratio for r in rounds):.2f}** "
        f"| **{median(r.overhead_s for r in rounds):.1f}** |",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure what the command line says."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=2, help="(%(default)s)")
    arguments.add_argument("--limit", type=int, help="of the rows; all by default")
    arguments.add_argument("--output", type=Path, required=True, help="folder for the results")
    given = arguments.parse_args()
    if given.rounds < 1:
        raise BadArguments("--rounds must be at least 1")
    output = given.output.absolute()
    output.mkdir(parents=True, exist_ok=True)
    rounds = [measure(given.limit, output) for _ in range(given.rounds)]
    (output / "sweep.md").write_text(markdown(rounds))
    (output / "sweep.json").write_text(json.dumps([asdict(each) for each in rounds], indent=2))
    messages.say(markdown(rounds))


if __name__ == "__main__":
    run(main)
