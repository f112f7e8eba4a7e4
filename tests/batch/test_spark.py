"""Batch jobs on real Spark: two local threads, and a local cluster of two workers.

Each job runs in its own process, because Spark's Java process stays with the process that starts
it.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.paths import PROJECT
from tests.batch.workspace import BatchWorkspace
from tests.fixtures.project import Sandbox

pytestmark = pytest.mark.skipif(
    find_spec("pyspark") is None, reason="requirements-spark.txt is not installed"
)

MASTERS = ("local[2]", "local-cluster[2,1,1024]")
ROWS = 2000


@pytest.fixture
def spark_home(tmp_path: Path) -> str:
    """A folder of links to PySpark's: a local cluster writes into its Spark home."""
    import pyspark

    home = tmp_path / "spark"
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        if entry.name != "work":
            (home / entry.name).symlink_to(entry)
    return str(home)


@pytest.fixture
def project(workspace: BatchWorkspace, spark_home: str) -> Sandbox:
    """The project with the tracking database that has the models."""
    return Sandbox(
        workspace.folder,
        {
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            "MLFLOW_EXPERIMENT_ID": workspace.experiment,
            "SPARK_HOME": spark_home,
        },
    )


def _questions() -> list[dict[str, Any]]:
    """Return 2,000 rows: the bundled questions repeated, and three blank ones."""
    file = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"
    texts = [json.loads(line)["question"] for line in file.read_text().splitlines()]
    rows: list[dict[str, Any]] = [
        {"id": number, "question": texts[number % len(texts)]} for number in range(ROWS)
    ]
    for number in (0, 999, 1999):
        rows[number]["question"] = " "
    return rows


def _arguments(workspace: BatchWorkspace, model_uri: str, master: str) -> list[str]:
    return [*workspace.arguments(model_uri, "in.jsonl", "spark.jsonl"), f"spark.master={master}"]


def test_spark_answers_equal_in_process_answers(
    workspace: BatchWorkspace, project: Sandbox, chat: Any
) -> None:
    workspace.write("in.jsonl", _questions())
    assert workspace.batch(chat.model_uri, "in.jsonl", "in_process.jsonl") == 0
    expected = workspace.read("in_process.jsonl")
    for master in MASTERS:
        project.run_step("batch", *_arguments(workspace, chat.model_uri, master)).check()

        rows = workspace.read("spark.jsonl")
        (workspace.folder / "spark.jsonl").unlink()
        assert [row["id"] for row in rows] == list(range(ROWS))
        assert rows == expected
        assert [row["id"] for row in rows if row["error"]] == [0, 999, 1999]
        assert workspace.newest_run().data.metrics["failed_rows"] == 3


@pytest.mark.parametrize("master", MASTERS)
def test_each_worker_loads_the_model_once(
    master: str, workspace: BatchWorkspace, project: Sandbox
) -> None:
    model = workspace.save_echo_model()
    rows = [{"question": f"{'crash' if n % 17 == 3 else 'hello'} {n}"} for n in range(100)]
    workspace.write("in.jsonl", rows)

    project.run_step(
        "batch", *_arguments(workspace, model, master), "batch.partition_rows=5"
    ).check()

    for row in workspace.read("spark.jsonl"):
        if row["question"].startswith("crash"):
            assert (row["answer"], row["error"]) == (None, "ValueError: no such prompt")
        else:
            assert (row["answer"], row["error"]) == (f"You said {row['question']}", None)
    loads = workspace.echo_log("loads")
    assert 1 <= len(set(loads)) == len(loads) <= 2
    assert len(workspace.echo_log("calls")) < len(rows)


@pytest.mark.parametrize("flavor", ["prompted", "pipeline"])
def test_other_flavors_answer_on_spark(
    flavor: str, workspace: BatchWorkspace, project: Sandbox, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(flavor)
    workspace.write("in.jsonl", _questions()[:8])
    assert workspace.batch(model.model_uri, "in.jsonl", "in_process.jsonl") == 0

    project.run_step(
        "batch", *_arguments(workspace, model.model_uri, "local[2]"), "batch.partition_rows=3"
    ).check()

    assert workspace.read("spark.jsonl") == workspace.read("in_process.jsonl")


def test_invalid_master_is_one_message(workspace: BatchWorkspace, project: Sandbox) -> None:
    workspace.write("in.jsonl", _questions()[1:3])

    done = project.run_step(
        "batch", *_arguments(workspace, workspace.save_echo_model(), "nonsense")
    )

    assert done.status == 1
    assert len(done.messages) == 1
    assert "spark.master=nonsense: Spark cannot be used: " in done.messages[0]
    assert "Traceback" not in done.errors
