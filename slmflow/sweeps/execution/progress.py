"""Show how a sweep goes on: points done, running and failed, and the time left.

The tracking server is asked, so it does not matter in which process or on which machine the points
are worked on. It is asked in a process of its own: MLflow's import hooks have a lock that a second
thread, importing anything while the first imports an evaluator, waits for with Python's own.
"""

import dataclasses
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

from slmflow.console import messages
from slmflow.pipeline import runs
from slmflow.sweeps import outcomes
from slmflow.sweeps.context import POINT, PRUNED, SIDE_BY_SIDE, Place
from slmflow.system import child_processes

_EVERY_S = 1.0


@contextmanager
def shown(place: Place, total: int) -> Iterator[None]:
    """Show a bar while the block runs, and a line for each point that ends."""
    arguments = json.dumps({"place": dataclasses.asdict(place), "total": total})
    command = [sys.executable, "-m", "slmflow.sweeps.execution.progress", arguments]
    # Its standard input ends with this process, in whichever way that ends.
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=child_processes.environment()):
        yield


def _watch(place: Place, total: int) -> None:
    seen: set[str] = set()
    with messages.counting() as progress:
        bar = progress.add_task(_text(Counter()), total=total)
        over = False
        while not over:
            over = bool(select.select([sys.stdin], [], [], _EVERY_S)[0])
            with suppress(MlflowException, OSError):  # of a busy server, which is asked again
                _show(outcomes.children(place), progress, bar, seen)


def _show(children: list[Run], progress: Progress, bar: TaskID, seen: set[str]) -> None:
    points = [run for run in children if POINT in run.data.tags]
    states = Counter(run.info.status for run in points)
    ended = sum(states.values()) - states["RUNNING"]
    states["RUNNING"] += sum(_side_by_side(run) for run in children)
    progress.update(bar, description=_text(states), completed=ended)
    for run in reversed(points):
        if run.info.status != "RUNNING" and run.info.run_id not in seen:
            seen.add(run.info.run_id)
            progress.console.print(escape(_line(run)), soft_wrap=True)


def _side_by_side(run: Run) -> int:
    """Return how many points are measured in a run."""
    return int(run.data.tags.get(SIDE_BY_SIDE, 0)) if run.info.status == "RUNNING" else 0


def _text(states: Counter[str]) -> str:
    done, running = states["FINISHED"], states["RUNNING"]
    failed = sum(states.values()) - done - running
    return f"points: {done} done, {running} running, {failed} failed"


def _line(run: Run) -> str:
    name, tags = run.data.tags.get(POINT, run.info.run_name), run.data.tags
    if run.info.status != "FINISHED":
        return f"{name}: failed: {tags.get(runs.ERROR, 'ended from outside')}"
    if PRUNED in tags:
        return f"{name}: given up: {tags[PRUNED]}"
    if runs.KEY not in tags:
        return f"{name}: {tags[runs.REUSED_FROM].replace(':', ' reused from run ')}"
    return f"{name}: done in {(run.info.end_time - run.info.start_time) / 1e3:,.1f} s"


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the sweep, which then ends this
    _asked = json.loads(sys.argv[1])
    _watch(Place(**_asked["place"]), _asked["total"])
