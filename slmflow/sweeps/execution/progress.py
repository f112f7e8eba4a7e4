"""Show the progress of a sweep: points done, running and failed, and the time left.

It polls the tracking server, so points may run in any process and on any machine. It polls in a
child process: a second thread that imports a module waits for the lock of MLflow's import hooks,
which the first thread holds while it imports an evaluator.
"""

import json
import select
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mlflow.entities import Run
from mlflow.exceptions import MlflowException
from rich.markup import escape
from rich.progress import Progress, TaskID

from slmflow.console import progress_bars
from slmflow.pipeline import runs
from slmflow.sweeps import outcomes
from slmflow.sweeps.context import POINT, PRUNED, SHARED_MEASUREMENT, SweepContext
from slmflow.system import child_processes

_INTERVAL_S = 1.0


@contextmanager
def bar(context: SweepContext, total: int) -> Iterator[None]:
    """Show a progress bar while the block runs, and a line for each point that ends."""
    arguments = [context.tracking_uri, context.experiment_id, context.run_id, total]
    command = [sys.executable, "-m", "slmflow.sweeps.execution.progress", json.dumps(arguments)]
    # The child ends when its standard input closes, however this process ends.
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=child_processes.environment()):
        yield


def _watch(tracking_uri: str, experiment_id: str, run_id: str, total: int) -> None:
    seen: set[str] = set()
    with progress_bars.item_bar() as progress:
        task = progress.add_task(_counts(Counter()), total=total)
        is_over = False
        while not is_over:
            is_over = bool(select.select([sys.stdin], [], [], _INTERVAL_S)[0])
            with suppress(MlflowException, OSError):  # a busy server is polled again
                children = outcomes.child_runs(tracking_uri, experiment_id, run_id)
                _update(children, progress, task, seen)


def _update(children: list[Run], progress: Progress, task: TaskID, seen: set[str]) -> None:
    points = [run for run in children if POINT in run.data.tags]
    states = Counter(run.info.status for run in points)
    ended = sum(states.values()) - states["RUNNING"]
    states["RUNNING"] += sum(_points_in_measurement(run) for run in children)
    progress.update(task, description=_counts(states), completed=ended)
    for run in reversed(points):
        if run.info.status != "RUNNING" and run.info.run_id not in seen:
            seen.add(run.info.run_id)
            progress.console.print(escape(_line(run)), soft_wrap=True)


def _points_in_measurement(run: Run) -> int:
    """Return how many points a run is measuring now."""
    return int(run.data.tags.get(SHARED_MEASUREMENT, 0)) if run.info.status == "RUNNING" else 0


def _counts(states: Counter[str]) -> str:
    done, running = states["FINISHED"], states["RUNNING"]
    failed = sum(states.values()) - done - running
    return f"points: {done} done, {running} running, {failed} failed"


def _line(run: Run) -> str:
    name, tags = run.data.tags.get(POINT, run.info.run_name), run.data.tags
    if run.info.status != "FINISHED":
        return f"{name}: failed: {outcomes.failure_reason(run)}"
    if PRUNED in tags:
        return f"{name}: pruned: {tags[PRUNED]}"
    if runs.KEY not in tags:
        return f"{name}: {tags[runs.REUSED_FROM].replace(':', ' reused from run ')}"
    return f"{name}: done in {(run.info.end_time - run.info.start_time) / 1e3:,.1f} s"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which ends this process
    _watch(*json.loads(sys.argv[1]))
