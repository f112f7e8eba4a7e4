"""A sweep on a real Ray cluster of two nodes with a shared tracking server."""

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
from slmflow.sweeps.execution import ray_launcher
from slmflow.sweeps.report import BEST
from tests.fixtures.project import Sandbox
from tests.fixtures.server import run_server
from tests.sweeps import pid_metric

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(find_spec("ray") is None, reason="requirements-ray.txt is not installed"),
]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Start a cluster of two nodes with a core each; yield its address."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # The path of a socket has at most 107 characters: too few below pytest's own folder.
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
    """Start a tracking server that also serves artifacts; yield its address."""
    store = f"--backend-store-uri sqlite:///{tmp_path}/mlflow.db"
    artifacts = f"--artifacts-destination {tmp_path}/artifacts --host 127.0.0.1 --workers 1"
    with run_server(Sandbox(tmp_path), f"mlflow server {store} {artifacts}") as url:
        yield url


def test_each_point_runs_on_the_cluster(cluster: str, server: str, tmp_path: Path) -> None:
    sandbox = pid_metric.sandbox(tmp_path, server, RAY_ADDRESS=cluster)
    limits = ("2", "4")

    done = sandbox.run_step(
        "sweep",
        f"generation.max_new_tokens={','.join(limits)}",
        "evaluation.limit=3",
        pid_metric.METRIC,
        "sweep.launcher=ray",
    ).check()

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
    table = pid_metric.check_processes(sweep.info.run_id, server)
    assert [row["generation.max_new_tokens"] for row in table[::2]] == [2, 4]
    assert {row["flavor"] for row in table} == {"transformers", "genai"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("RAY_TMPDIR", "x" * 100, "Ray cannot start here: .* Set RAY_TMPDIR to a folder"),
        ("RAY_ADDRESS", "127.0.0.1:1", "RAY_ADDRESS=127.0.0.1:1: Ray is unavailable: .*refused"),
        ("RAY_ADDRESS", "nowhere", "RAY_ADDRESS=nowhere: Ray is unavailable: "),
    ],
)
def test_unusable_ray_is_reported(
    name: str, value: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setenv(name, value)

    with pytest.raises(UserError, match=message):
        ray_launcher.connect(workers=1)

    assert signal.getsignal(signal.SIGTERM) is before
