"""The console on a real tracking server: one link, to the run of the command."""

import subprocess
import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.fixtures.project import Sandbox
from tests.fixtures.server import run_server


@pytest.mark.long
def test_command_with_child_runs_prints_one_link(tmp_path: Path) -> None:
    database, folder = f"sqlite:///{tmp_path / 'server.db'}", tmp_path / "artifacts"
    command = f"mlflow server --backend-store-uri {database} --artifacts-destination {folder}"
    with run_server(Sandbox(tmp_path), f"{command} --host 127.0.0.1 --workers 1") as url:
        environment = Sandbox(tmp_path, {"MLFLOW_TRACKING_URI": url}).environ()
        done = subprocess.run(
            [sys.executable, "-m", "steps.convert", "target=cpu_fp32"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        found = MlflowClient(url).search_runs(["0"], order_by=["attributes.start_time"])
    assert done.returncode == 0, done.stdout
    names = [run.info.run_name for run in found]
    assert names == ["convert tiny_phi3 cpu_fp32", "fetch tiny_phi3"]
    page = f"{url}/#/experiments/0/runs/{found[0].info.run_id}"
    assert done.stdout.rstrip().endswith(f"run in MLflow: {page}")
    assert done.stdout.count("/#/experiments/") == 1
    assert "View" not in done.stdout
