"""A sweep on a real Ray cluster of two machines' worth, with a tracking server that they share."""

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from steps.common import runs
from steps.common.errors import UserError
from steps.common.paths import PROJECT
from steps.sweep import ray_tasks
from steps.sweep.place import POINT
from steps.sweep.report import BEST
from tests.project import Workplace
from tests.serving import served

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed"),
]

# A metric whose figure tells which process scored.
PID = """
import os


def pid(answer: str, expected: str) -> float:
    return os.getpid()
"""


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a cluster of two nodes with a core each; yield its address."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # A socket's path may have 107 characters: too few for one below pytest's own folder.
    with tempfile.TemporaryDirectory() as scratch:
        node = {"num_cpus": 1, "include_dashboard": False}
        started = Cluster(initialize_head=True, head_node_args={**node, "temp_dir": scratch})
        started.add_node(**node)
        try:
            yield started.address
        finally:
            started.shutdown()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Start a tracking server that hands out artifacts too; yield its address."""
    store = f"--backend-store-uri sqlite:///{tmp_path}/mlflow.db"
    artifacts = f"--artifacts-destination {tmp_path}/artifacts --host 127.0.0.1 --workers 1"
    with served(Workplace(tmp_path), f"mlflow server {store} {artifacts}") as url:
        yield url


def test_points_are_worked_on_by_processes_of_the_cluster(
    cluster: str, server: str, tmp_path: Path
) -> None:
    (tmp_path / "where.py").write_text(PID)
    place = Workplace(
        tmp_path,
        {
            "MLFLOW_TRACKING_URI": server,
            "RAY_ADDRESS": cluster,
            "PYTHONPATH": f"{PROJECT}{os.pathsep}{tmp_path}",
        },
    )
    limits = ("2", "4")

    done = place.step(
        "sweep",
        f"generation.max_new_tokens={','.join(limits)}",
        "evaluation.limit=3",
        "evaluation.metrics=[where:pid]",
        "sweep.launcher=ray",
    )

    assert done.status == 0, done.errors
    last = done.errors.splitlines()[-1]
    assert last.startswith("best of 2 points: generation.max_new_tokens=")
    client = MlflowClient(server)
    found = {
        step: client.search_runs(["0"], f"tags.`{runs.STEP}` = '{step}'")
        for step in ("sweep", "evaluate", "measure", "convert", "fetch")
    }
    counts = {step: len(each) for step, each in found.items()}
    assert counts == {"sweep": 1, "evaluate": 2, "measure": 2, "convert": 1, "fetch": 1}
    assert {run.info.status for each in found.values() for run in each} == {"FINISHED"}
    assert {run.data.tags[POINT] for run in found["evaluate"]} == {
        f"generation.max_new_tokens={limit}" for limit in limits
    }
    [sweep] = found["sweep"]
    assert sweep.data.tags[BEST] in {run.info.run_id for run in found["evaluate"]}
    table = _table(sweep.info.run_id, server)
    assert [row["generation.max_new_tokens"] for row in table[::2]] == [2, 4]
    assert {row["flavor"] for row in table} == {"transformers", "genai"}
    pids = {row["pid"] for row in table}
    assert len(pids) == 2
    assert os.getpid() not in pids


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("RAY_TMPDIR", "x" * 100, "Ray cannot start here: .* Set RAY_TMPDIR to a folder"),
        ("RAY_ADDRESS", "127.0.0.1:1", "RAY_ADDRESS=127.0.0.1:1: Ray cannot be used: .*refused"),
        ("RAY_ADDRESS", "nowhere", "RAY_ADDRESS=nowhere: Ray cannot be used: "),
    ],
)
def test_what_ray_cannot_use_is_told(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv(name, value)

    with pytest.raises(UserError, match=said):
        ray_tasks.connected(workers=1)

    assert signal.getsignal(signal.SIGTERM) is before


def _table(run_id: str, server: str) -> list[dict[str, object]]:
    """Return the rows of a run's `comparison.json`, by column."""
    file = mlflow.artifacts.download_artifacts(
        run_id=run_id, artifact_path="comparison.json", tracking_uri=server
    )
    table = json.loads(Path(file).read_text())
    return [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
