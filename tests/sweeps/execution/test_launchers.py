"""Hydra's launchers, each with a real sweep of two points on this machine."""

import os
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slmflow.pipeline import runs
from tests.sweeps import pid_metric

pytestmark = pytest.mark.long

SUBMITIT = pytest.param(
    "submitit_local",
    marks=pytest.mark.skipif(
        find_spec("submitit") is None, reason="requirements-submitit.txt is not installed"
    ),
)


@pytest.mark.parametrize("launcher", ["joblib", SUBMITIT])
def test_each_point_runs_in_its_own_process(launcher: str, tmp_path: Path) -> None:
    tracking = f"sqlite:///{tmp_path}/mlflow.db"
    sandbox = pid_metric.sandbox(tmp_path, tracking)

    done = sandbox.step(
        "sweep",
        "generation.max_new_tokens=2,4",
        "evaluation.limit=3",
        pid_metric.METRIC,
        f"sweep.launcher={launcher}",
    )

    assert done.status == 0, done.errors
    assert done.errors.splitlines()[-1].startswith("best of 2 points: generation.max_new_tokens=")
    found = MlflowClient(tracking).search_runs(["0"])
    counts = [run.data.tags.get(runs.STEP) for run in found]
    assert {step: counts.count(step) for step in ("sweep", "evaluate", "convert", "fetch")} == {
        "sweep": 1,
        "evaluate": 2,
        "convert": 1,
        "fetch": 1,
    }
    assert {run.info.status for run in found} == {"FINISHED"}
    [sweep] = [run.info.run_id for run in found if run.data.tags.get(runs.STEP) == "sweep"]
    pids = {row["pid"] for row in pid_metric.comparison_rows(sweep, tracking)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    assert not (tmp_path / "multirun").exists()
