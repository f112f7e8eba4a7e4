"""Hydra's launchers, each with a real sweep of two points on this machine."""

from collections import Counter
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

    done = sandbox.run_step(
        "sweep",
        "generation.max_new_tokens=2,4",
        "evaluation.limit=3",
        pid_metric.METRIC,
        f"sweep.launcher={launcher}",
    ).check()

    assert done.errors.splitlines()[-1].startswith("best of 2 points: generation.max_new_tokens=")
    found = MlflowClient(tracking).search_runs(["0"])
    counts = Counter(run.data.tags.get(runs.STEP) for run in found)
    expected = {"sweep": 1, "evaluate": 2, "convert": 1, "fetch": 1}
    assert {step: counts[step] for step in expected} == expected
    assert {run.info.status for run in found} == {"FINISHED"}
    [sweep] = [run.info.run_id for run in found if run.data.tags.get(runs.STEP) == "sweep"]
    pid_metric.check_processes(sweep, tracking)
    assert not (tmp_path / "multirun").exists()
