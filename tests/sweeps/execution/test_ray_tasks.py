"""A sweep on a real Ray cluster of two machines' worth, with a tracking server that they share."""

import os
import signal
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from mlflow import MlflowClient

from slmflow.errors import UserError
from slmflow.pipeline import runs
from slmflow.sweeps.context import POINT
from slmflow.sweeps.execution import ray_tasks
from slmflow.sweeps.reports.report import BEST
from tests.fixtures.project import Workplace
from tests.fixtures.server import served
from tests.sweeps import pids

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed"),
]


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
    place = pids.workplace(tmp_path, server, RAY_ADDRESS=cluster)
    limits = ("2", "4")

    done = place.step(
        "sweep",
        f"generation.max_new_tokens={','.join(limits)}",
        "evaluation.limit=3",
        pids.METRIC,
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
    table = pids.table(sweep.info.run_id, server)
    assert [row["generation.max_new_tokens"] for row in table[::2]] == [2, 4]
    assert {row["flavor"] for row in table} == {"transformers", "genai"}
    told = {row["pid"] for row in table}
    assert len(told) == 2
    assert os.getpid() not in told


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
