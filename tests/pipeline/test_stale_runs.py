"""Runs of processes that were killed, by real processes on a real tracking store."""

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

from slmflow.pipeline import runs, stale_runs, step, store
from slmflow.pipeline.failures import INTERRUPTED
from tests.fixtures.project import Workplace

# A step that tells its run and the folder of its temporary files, and then works for ever.
AT_WORK = """
import signal, sys, tempfile
import mlflow
from steps.common import step

def work(running):
    tempfile.mkdtemp()
    mlflow.initialize_logged_model(name="half")
    print(running.run.info.run_id, tempfile.gettempdir(), flush=True)
    signal.pause()

sys.argv[1:] = []
step.run_step("fetch", work)
"""


@pytest.fixture
def place(tmp_path: Path, tracking: str) -> Workplace:
    assert tracking
    return Workplace(tmp_path)


@contextmanager
def at_work(
    place: Workplace, **environment: str
) -> Iterator[tuple["subprocess.Popen[str]", str, Path]]:
    """Yield a process that is at work, its run's id and the folder of its temporary files."""
    with subprocess.Popen(
        [sys.executable, "-c", AT_WORK],
        env=place.environ() | environment,
        cwd=place.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            run_id, temp = process.stdout.readline().split()
            yield process, run_id, Path(temp)
        finally:
            process.kill()


def _nothing(_: step.Step) -> None:
    pass


def test_what_a_killed_step_leaves_is_cleared_by_the_next(place: Workplace) -> None:
    client = MlflowClient()
    with at_work(place) as (process, run_id, temp):
        assert temp.parent == place.folder / "tmp"
        assert len(list(temp.iterdir())) == 1

        assert step.run("convert", _nothing, []) == 0
        assert client.get_run(run_id).info.status == "RUNNING"
        process.kill()
        process.wait()
        assert client.get_run(run_id).info.status == "RUNNING"
        done = place.step("fetch")

    assert done.status == 0, done.errors
    assert f"run {run_id}, whose process was ended, is KILLED now" in done.errors
    run = client.get_run(run_id)
    assert (run.info.status, run.data.tags[runs.ERROR]) == ("KILLED", "ended from outside")
    [model] = client.search_logged_models(["0"])
    assert model.status == LoggedModelStatus.FAILED
    assert list((place.folder / "tmp").iterdir()) == []
    assert [
        file.name
        for file in (store.home() / "locks").glob("*[nh]-*.lock")
        if "weights" not in file.name
    ] == []


@pytest.mark.parametrize("interrupts", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_step_ends_with_the_process_that_launched_it(
    place: Workplace, interrupts: signal.Handlers
) -> None:
    """Of a workflow that is killed no step goes on in the dark, in the background neither."""
    client = MlflowClient()
    run_id = client.create_run("0").info.run_id
    starts = (
        f"import signal, subprocess, sys; signal.signal(signal.SIGINT, {int(interrupts)});"
        "subprocess.run([sys.executable, '-c', sys.argv[1]])"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starts, AT_WORK],
        env=place.environ() | {"MLFLOW_RUN_ID": run_id},
        cwd=place.folder,
        stdout=subprocess.PIPE,
        text=True,
    ) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline().split()[0] == run_id
        launcher.kill()
        launcher.stdout.read()  # to the end: the step has closed it too

    assert client.get_run(run_id).info.status == "KILLED"


def test_a_step_whose_launcher_is_dead_already_does_not_begin(place: Workplace) -> None:
    client = MlflowClient()
    tag = f"{os.uname().nodename}:{place.folder}/gone.lock"
    parent = client.create_run("0", tags={stale_runs.LOCK_TAG: tag}).info.run_id
    child = client.create_run("0", tags={"mlflow.parentRunId": parent}).info.run_id

    status = step.run("fetch", _nothing, [], new_run={"run_id": child})

    assert status == INTERRUPTED
    assert client.get_run(child).info.status == "KILLED"


def test_runs_that_are_not_slmflows_are_left_alone(place: Workplace) -> None:
    run_id = MlflowClient().create_run("0").info.run_id

    assert step.run("fetch", _nothing, []) == 0

    assert MlflowClient().get_run(run_id).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("hours", "other", "status"),
    [
        (25, {}, "KILLED"),
        (23, {}, "RUNNING"),
        (25, {MLFLOW_SOURCE_NAME: "file:///another"}, "RUNNING"),
        (25, {MLFLOW_PROJECT_BACKEND: "databricks"}, "RUNNING"),
    ],
)
def test_runs_that_no_step_has_begun_for_a_day(
    place: Workplace, hours: int, other: dict[str, str], status: str
) -> None:
    assert place
    client, project = MlflowClient(), {MLFLOW_SOURCE_NAME: "file:///here"}
    begun = int((time.time() - hours * 3600) * 1e3)
    tags = {**project, MLFLOW_PROJECT_ENTRY_POINT: "main", **other}
    run_id = client.create_run("0", start_time=begun, tags=tags).info.run_id

    assert step.run("fetch", _nothing, [], new_run={"tags": project}) == 0

    assert client.get_run(run_id).info.status == status


def test_a_store_that_cannot_be_written_hinders_no_step_that_needs_none(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.folder / "file").write_text("")
    monkeypatch.setenv("SLMFLOW_HOME", str(place.folder / "file"))

    assert step.run("serve", _nothing, []) == 0

    [run] = MlflowClient().search_runs(["0"])
    assert stale_runs.LOCK_TAG not in run.data.tags
