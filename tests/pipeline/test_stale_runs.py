"""Runs of killed processes, with real processes and a real tracking store."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModelStatus
from mlflow.utils.mlflow_tags import (
    MLFLOW_PROJECT_BACKEND,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
)

from slmflow.pipeline import runs, stale_runs, step_runner, store
from slmflow.pipeline.failures import INTERRUPTED
from slmflow.pipeline.step import Step
from tests.fixtures.project import Sandbox

# A step that prints its run and its folder of temporary files, and then waits forever.
WAITING_STEP = """
import signal, sys, tempfile
import mlflow
from slmflow.pipeline import step_runner

def work(running):
    tempfile.mkdtemp()
    mlflow.initialize_logged_model(name="partial")
    print(running.run.info.run_id, tempfile.gettempdir(), flush=True)
    signal.pause()

sys.argv[1:] = []
step_runner.run_step("fetch", work)
"""


@pytest.fixture
def sandbox(tmp_path: Path, tracking: str) -> Sandbox:
    assert tracking
    return Sandbox(tmp_path)


@contextmanager
def run_waiting_step(
    sandbox: Sandbox, *launcher: str, **environment: str
) -> Iterator[tuple["subprocess.Popen[str]", str, Path]]:
    """Yield a waiting step's process, its run's id and its folder of temporary files.

    launcher: a script that runs its first argument; its process is yielded instead.
    """
    with subprocess.Popen(
        [sys.executable, "-c", *launcher, WAITING_STEP],
        env=sandbox.environ() | environment,
        cwd=sandbox.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            run_id, temp = process.stdout.readline().split()
            yield process, run_id, Path(temp)
        finally:
            process.kill()


def _do_nothing(_: Step) -> None:
    pass


def test_next_step_cleans_up_after_a_killed_step(sandbox: Sandbox) -> None:
    client = MlflowClient()
    with run_waiting_step(sandbox) as (process, run_id, temp):
        assert temp.parent == sandbox.folder / "tmp"
        assert len(list(temp.iterdir())) == 1

        assert step_runner.run("convert", _do_nothing, []) == 0
        assert client.get_run(run_id).info.status == "RUNNING"
        process.kill()
        process.wait()
        assert client.get_run(run_id).info.status == "RUNNING"
        done = sandbox.run_step("fetch")

    assert done.status == 0, done.errors
    assert f"run {run_id} is marked as KILLED: its process is dead" in done.errors
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags[runs.ERROR]) == ("KILLED", "its process was killed")
    [model] = client.search_logged_models(["0"])
    assert model.status == LoggedModelStatus.FAILED
    assert list((sandbox.folder / "tmp").iterdir()) == []
    assert [
        file.name
        for file in (store.home() / "locks").glob("*[nh]-*.lock")
        if "weights" not in file.name
    ] == []


@pytest.mark.parametrize("interrupts", [signal.SIG_DFL, signal.SIG_IGN])
def test_step_ends_with_its_launcher(sandbox: Sandbox, interrupts: signal.Handlers) -> None:
    """In the foreground, and in the background, where a shell ignores SIGINT."""
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    start = (
        f"import signal, subprocess, sys; signal.signal(signal.SIGINT, {int(interrupts)});"
        "subprocess.run([sys.executable, '-c', sys.argv[1]])"
    )
    with run_waiting_step(sandbox, start, MLFLOW_RUN_ID=run_id) as (launcher, step_run_id, _):
        assert step_run_id == run_id
        assert launcher.stdout is not None
        launcher.kill()
        launcher.stdout.read()  # until the step has closed it too

    assert client.get_run(run_id).info.status == "KILLED"


def test_step_with_a_dead_launcher_does_not_begin(sandbox: Sandbox) -> None:
    client = MlflowClient()
    tag = f"{os.uname().nodename}:{sandbox.folder}/gone.lock"
    parent = client.create_run("0", tags={stale_runs.LOCK_TAG: tag}).info.run_id
    child = client.create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id

    status = step_runner.run("fetch", _do_nothing, [], new_run={"run_id": child})

    assert status == INTERRUPTED
    assert client.get_run(child).info.status == "KILLED"


def test_runs_of_other_programs_stay(sandbox: Sandbox) -> None:
    run_id = MlflowClient().create_run("0").info.run_id

    assert step_runner.run("fetch", _do_nothing, []) == 0

    assert MlflowClient().get_run(run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("hours", "tags", "status"),
    [
        (25, {}, "KILLED"),
        (23, {}, "RUNNING"),
        (25, {MLFLOW_SOURCE_NAME: "file:///another"}, "RUNNING"),
        (25, {MLFLOW_PROJECT_BACKEND: "databricks"}, "RUNNING"),
    ],
)
def test_runs_not_begun_for_a_day_are_killed(
    sandbox: Sandbox, hours: int, tags: dict[str, str], status: str
) -> None:
    assert sandbox
    client, project = MlflowClient(), {MLFLOW_SOURCE_NAME: "file:///here"}
    start_time = int((time.time() - hours * 3600) * 1e3)
    tags = {**project, MLFLOW_PROJECT_ENTRY_POINT: "main", **tags}
    run_id = client.create_run("0", start_time=start_time, tags=tags).info.run_id

    assert step_runner.run("fetch", _do_nothing, [], new_run={"tags": project}) == 0

    assert client.get_run(run_id).info.status == status


def test_step_without_store_runs_with_unwritable_store(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    (sandbox.folder / "file").write_text("")
    monkeypatch.setenv("SLMFLOW_HOME", str(sandbox.folder / "file"))

    assert step_runner.run("serve", _do_nothing, []) == 0

    [run] = MlflowClient().search_runs(["0"])
    assert stale_runs.LOCK_TAG not in run.data.tags
