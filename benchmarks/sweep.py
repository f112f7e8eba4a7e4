"""Compare the time of a sweep of 12 points with that of the workflow, each from an empty store.

python -m benchmarks.sweep --rounds 2 --output docs/sweeps
python -m benchmarks.sweep --rounds 1 --limit 3 --output trial

Runs both in turns with `mlflow run` on the bundled model. Writes sweep.md, sweep.json (all raw
values) and the plots of the last sweep to the output folder. Run it on an idle machine.
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

from benchmarks.harness.child_process import check_exit
from benchmarks.harness.command_line import add_rounds_and_output, create_parser, run_main
from slmflow.console import messages
from slmflow.paths import PROJECT
from slmflow.system import child_processes, machine

OVERRIDES = ("target=cpu_fp32,cpu_int8,cpu_int4", "generation.temperature=0.0,0.3,0.7,1.0")
POINTS = 12
PLOTS = ("front.png", "parallel.png")


@dataclass(frozen=True)
class Round:
    """The seconds of one round: `main`, the sweep, and all child runs of the sweep."""

    main_s: float
    sweep_s: float
    child_runs_s: float

    @property
    def ratio(self) -> float:
        """The duration of the sweep divided by that of `main`."""
        return self.sweep_s / self.main_s

    @property
    def overhead_s(self) -> float:
        """The seconds per point that are spent outside the child runs."""
        return (self.sweep_s - self.child_runs_s) / POINTS


def measure(limit: int | None, plots: Path) -> Round:
    """Run both, each with an empty store, and copy the sweep's plots to a folder.

    limit: the most rows to evaluate. Raises UserError if a run fails.
    """
    rows = [] if limit is None else [f"evaluation.limit={limit}"]
    with tempfile.TemporaryDirectory() as main, tempfile.TemporaryDirectory() as sweep:
        main_s = _run("main", rows, Path(main))
        sweep_s = _run("sweep", [*rows, *OVERRIDES], Path(sweep))
        client = MlflowClient(_tracking(Path(sweep)))
        [parent] = client.search_runs(["0"], "tags.`slmflow.step` = 'sweep'")
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent.info.run_id}'"
        child_runs_s = sum(map(_seconds, client.search_runs(["0"], query)))
        for plot in PLOTS:
            shutil.copy(client.download_artifacts(parent.info.run_id, plot, sweep), plots / plot)
    return Round(main_s, sweep_s, child_runs_s)


def _run(entry_point: str, overrides: list[str], folder: Path) -> float:
    """Return the seconds that `mlflow run` takes with its database and store in a folder."""
    mlflow = str(Path(sys.executable).parent / "mlflow")
    options = [part for override in overrides for part in ("-P", override)]
    line = [mlflow, "run", str(PROJECT), "-e", entry_point, "--env-manager", "local", *options]
    environment = child_processes.environment(
        MLFLOW_TRACKING_URI=_tracking(folder), SLMFLOW_HOME=str(folder / "home")
    )
    del environment["HF_HUB_OFFLINE"]
    environment["PATH"] = os.pathsep.join([str(Path(mlflow).parent), environment["PATH"]])
    started = time.perf_counter()
    check_exit(line, subprocess.call(line, env=environment, cwd=folder))
    return time.perf_counter() - started


def _tracking(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def _seconds(run: Run) -> float:
    return float(run.info.end_time - run.info.start_time) / 1e3


def markdown(rounds: list[Round]) -> str:
    """Return a page with all rounds and their medians."""
    lines = [
        f"On {machine.description()}, `{'` and `'.join(OVERRIDES)}` ({POINTS} points) of the "
        "bundled model, from an empty store:",
        "",
        "| round | `main`, s | sweep, s | sweep to `main` | outside child runs, s per point |",
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
    """Run the benchmark with the arguments of the command line."""
    parser = create_parser(__doc__)
    add_rounds_and_output(parser, rounds=2)
    parser.add_argument("--limit", type=int, help="the most rows to evaluate; default: all")
    options = parser.parse_args()
    output = options.output
    output.mkdir(parents=True, exist_ok=True)
    rounds = [measure(options.limit, output) for _ in range(options.rounds)]
    (output / "sweep.md").write_text(markdown(rounds))
    (output / "sweep.json").write_text(json.dumps([asdict(each) for each in rounds], indent=2))
    messages.info(markdown(rounds))


if __name__ == "__main__":
    run_main(main)
