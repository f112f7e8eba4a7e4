"""A sweep that is killed and started again, and one that is cancelled: real processes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.pipeline import runs
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.sweeps.context import POINT
from tests.fixtures.project import Workplace
from tests.fixtures.tracking import tracking_in
from tests.registry.evaluated import evaluate

# A metric that tells that a point is at work, and keeps it there. The sweep itself tries the metric
# too, in a run that has no parent.
HELD = """
import os
import signal

import mlflow


def hold(answer: str, expected: str) -> float:
    run = mlflow.active_run()
    if run is not None and "mlflow.parentRunId" in run.data.tags:
        with open(os.environ["REACHED"], "w") as reached:
            reached.write("at work")
        signal.pause()
    return 1.0
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    (tmp_path / "held.py").write_text(HELD)
    monkeypatch.syspath_prepend(tmp_path)
    os.mkfifo(tmp_path / "reached")
    # Ray keeps sockets in its folder, whose paths may have 107 characters.
    with tracking_in(tmp_path), tempfile.TemporaryDirectory() as short:
        yield Workplace(tmp_path, {"REACHED": str(tmp_path / "reached"), "RAY_TMPDIR": short})


class Sweep:
    """A sweep under way, in a session of its own."""

    def __init__(self, place: Workplace, *arguments: str) -> None:
        environment = place.environ()
        environment["PYTHONPATH"] += f"{os.pathsep}{place.folder}"
        self.place = place
        self.process = subprocess.Popen(
            [sys.executable, "-m", "steps.sweep", *arguments],
            cwd=place.folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_until_a_point_is_at_work(self) -> None:
        with (self.place.folder / "reached").open() as reached:
            assert reached.read() == "at work"

    def kill(self) -> None:
        """End its first process as the system does that runs out of memory."""
        self.process.kill()
        self.process.wait()

    def cancel(self) -> tuple[int, str]:
        """Return the status and what it wrote, when all of its processes have closed that."""
        self.process.terminate()
        _, errors = self.process.communicate()
        return self.process.returncode, errors

    def left(self) -> list[psutil.Process]:
        """Return those of its processes that do not end."""
        session = [each for each in psutil.process_iter() if self._has(each)]
        return psutil.wait_procs(session, timeout=5)[1]

    def _has(self, process: psutil.Process) -> bool:
        try:
            ended = process.status() == psutil.STATUS_ZOMBIE
            return not ended and os.getsid(process.pid) == self.process.pid
        except (ProcessLookupError, psutil.NoSuchProcess):
            return False


def _runs(place: Workplace) -> dict[str, Run]:
    """Return the runs of sweeps and points by what they are, the newest of each."""
    found = place.client.search_runs(["0"], order_by=["start_time ASC"])
    return {run.data.tags.get(POINT, run.data.tags.get(runs.STEP, "")): run for run in found}


RAY = pytest.param(
    "ray",
    marks=[
        pytest.mark.long,
        pytest.mark.skipif(
            find_spec("ray") is None, reason="requirements-ray.txt is not installed"
        ),
    ],
)


@pytest.mark.parametrize(
    "launcher", ["serial", pytest.param("joblib", marks=pytest.mark.long), RAY]
)
def test_a_killed_sweep_goes_on_and_a_cancelled_one_ends_all(
    place: Workplace, launcher: str
) -> None:
    metric = "evaluation.metrics=[held:hold]"
    arguments, _ = evaluate(metric)
    done = arguments[-1]
    name, number = done.split("=")
    broken = f"{name}={int(number) + 1000}"
    asked = (metric, f"{name}={number},{int(number) + 1000}", f"sweep.launcher={launcher}")

    killed = Sweep(place, *asked)
    killed.wait_until_a_point_is_at_work()
    before = _runs(place)
    killed.kill()
    again = Sweep(place, *asked)
    again.wait_until_a_point_is_at_work()
    now = _runs(place)
    status, errors = again.cancel()

    client = MlflowClient()

    def state(run: Run) -> str:
        return str(client.get_run(run.info.run_id).info.status)

    assert now["sweep"].info.run_id != before["sweep"].info.run_id
    assert state(before["sweep"]) == state(before[broken]) == "KILLED"
    # Side by side the other point may be ended before it has a run, or can tell what it found.
    assert launcher != "serial" or state(now[done]) == "FINISHED"
    assert now[broken].info.run_id != before[broken].info.run_id
    assert status == INTERRUPTED
    assert state(now["sweep"]) == state(now[broken]) == "KILLED"
    assert "RUNNING" not in {run.info.status for run in client.search_runs(["0"])}
    assert "Traceback" not in errors
    assert again.left() == []
    # A worker of joblib's without a point waits some minutes for one; Ray's two agents look every
    # few seconds whether their node is there.
    for process in killed.left():
        with suppress(psutil.NoSuchProcess):
            assert launcher == "joblib" or "Agent" in " ".join(process.cmdline())
            process.kill()
    killed.process.communicate()
