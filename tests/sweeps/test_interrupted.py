"""A sweep that is killed and started again, and one that is cancelled, in real processes."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from benchmarks.fault_injection.step_process import surviving_processes
from slmflow.pipeline import runs
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.sweeps.context import POINT
from tests.fixtures.project import Sandbox
from tests.fixtures.tracking import isolated_tracking
from tests.registry.finished_runs import finish_evaluation

# Signals that a point has started, and blocks it. The sweep also tries the metric itself, in a run
# that has no parent.
BLOCKING_METRIC = """
import os
import signal

import mlflow


def block(answer: str, expected: str) -> float:
    run = mlflow.active_run()
    if run is not None and "mlflow.parentRunId" in run.data.tags:
        open(os.environ["STARTED"], "w").close()
        signal.pause()
    return 1.0
"""


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    (tmp_path / "blocking.py").write_text(BLOCKING_METRIC)
    monkeypatch.syspath_prepend(tmp_path)
    # Ray keeps sockets in its folder; the path of a socket has at most 107 characters.
    with isolated_tracking(tmp_path), tempfile.TemporaryDirectory() as short:
        yield Sandbox(tmp_path, {"STARTED": str(tmp_path / "started"), "RAY_TMPDIR": short})


class Sweep:
    """A running sweep in its own process session."""

    def __init__(self, sandbox: Sandbox, *arguments: str) -> None:
        environment = sandbox.environ()
        environment["PYTHONPATH"] += f"{os.pathsep}{sandbox.folder}"
        self.sandbox = sandbox
        self.process = subprocess.Popen(
            [sys.executable, "-m", "steps.sweep", *arguments],
            cwd=sandbox.folder,
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for_point(self) -> None:
        """Wait until a point has started."""
        started = self.sandbox.folder / "started"
        while not started.exists():
            assert self.process.poll() is None
            time.sleep(0.1)
        started.unlink()

    def kill(self) -> None:
        """Kill the sweep's own process, as a system without memory does."""
        self.process.kill()
        self.process.wait()

    def cancel(self) -> tuple[int, str]:
        """Terminate the sweep; return its status and errors when all its processes are done."""
        self.process.terminate()
        _, errors = self.process.communicate()
        return self.process.returncode, errors

    def survivors(self) -> list[psutil.Process]:
        """Return the processes of the session that do not end by themselves."""
        return surviving_processes(self.process.pid, timeout=5)


def _newest_runs(sandbox: Sandbox) -> dict[str, Run]:
    """Return the newest run of each point by the point's name, and of each other step."""
    found = sandbox.client.search_runs(["0"], order_by=["start_time ASC"])
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
    "launcher", [*(pytest.param(n, marks=pytest.mark.long) for n in ("serial", "joblib")), RAY]
)
def test_killed_sweep_continues_and_cancelled_one_ends_all(sandbox: Sandbox, launcher: str) -> None:
    metric = "evaluation.metrics=[blocking:block]"
    evaluated, _ = finish_evaluation(metric)
    finished = evaluated[-1]
    name, number = finished.split("=")
    blocked = f"{name}={int(number) + 1000}"
    arguments = (metric, f"{name}={number},{int(number) + 1000}", f"sweep.launcher={launcher}")

    killed = Sweep(sandbox, *arguments)
    killed.wait_for_point()
    before = _newest_runs(sandbox)
    killed.kill()
    restarted = Sweep(sandbox, *arguments)
    restarted.wait_for_point()
    after = _newest_runs(sandbox)
    status, errors = restarted.cancel()

    client = MlflowClient()

    def state(run: Run) -> str:
        return str(client.get_run(run.info.run_id).info.status)

    assert after["sweep"].info.run_id != before["sweep"].info.run_id
    assert state(before["sweep"]) == state(before[blocked]) == "KILLED"
    # In parallel the other point may end before it has a run, or before it logs its result.
    assert launcher != "serial" or state(after[finished]) == "FINISHED"
    assert after[blocked].info.run_id != before[blocked].info.run_id
    assert status == INTERRUPTED
    assert state(after["sweep"]) == state(after[blocked]) == "KILLED"
    assert "RUNNING" not in {run.info.status for run in client.search_runs(["0"])}
    assert "Traceback" not in errors
    assert restarted.survivors() == []
    # An idle worker of joblib waits some minutes for work; Ray's two agents check every few seconds
    # whether their node still exists.
    for process in killed.survivors():
        with suppress(psutil.NoSuchProcess):
            assert launcher == "joblib" or "Agent" in " ".join(process.cmdline())
            process.kill()
    killed.process.communicate()
