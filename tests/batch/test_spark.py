"""A file answered on real Spark: two threads of this machine, and a cluster of two workers.

Each in a process of its own, as Spark's Java process stays with the one that starts it.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import mlflow
import pytest

from slmflow.paths import PROJECT
from tests.batch.jobs import Place, lines, listening
from tests.fixtures.project import Workplace

pytestmark = pytest.mark.skipif(
    find_spec("pyspark") is None, reason="requirements-spark.txt is not installed"
)

MASTERS = ("local[2]", "local-cluster[2,1,1024]")
ROWS = 2000


@pytest.fixture
def spark_home(tmp_path: Path) -> str:
    """PySpark's folder in another: a local cluster writes into it."""
    import pyspark

    home = tmp_path / "spark"
    home.mkdir()
    for entry in Path(pyspark.__file__).parent.iterdir():
        if entry.name != "work":
            (home / entry.name).symlink_to(entry)
    return str(home)


@pytest.fixture
def workplace(place: Place, spark_home: str) -> Workplace:
    """Where the step is called, with the tracking database that has the models."""
    return Workplace(
        place.folder,
        {
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            "MLFLOW_EXPERIMENT_ID": place.experiment,
            "SPARK_HOME": spark_home,
        },
    )


def _questions() -> list[dict[str, Any]]:
    """Return 2,000 rows: the bundled questions over and over, and a few that cannot be sent."""
    file = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"
    texts = [json.loads(line)["question"] for line in file.read_text().splitlines()]
    rows: list[dict[str, Any]] = [
        {"id": number, "question": texts[number % len(texts)]} for number in range(ROWS)
    ]
    for number in (0, 999, 1999):
        rows[number]["question"] = " "
    return rows


def _arguments(place: Place, model_uri: str, master: str) -> tuple[str, ...]:
    return (
        f"batch.model_uri={model_uri}",
        f"batch.input={place.folder / 'in.jsonl'}",
        f"batch.output={place.folder / 'spark.jsonl'}",
        f"spark.master={master}",
    )


def test_answers_are_those_of_this_process(place: Place, workplace: Workplace, chat: Any) -> None:
    place.write("in.jsonl", _questions())
    assert place.batch(chat.model_uri, "in.jsonl", "here.jsonl") == 0
    here = place.read("here.jsonl")
    for master in MASTERS:
        done = workplace.step("batch", *_arguments(place, chat.model_uri, master))

        assert done.status == 0, done.errors
        found = place.read("spark.jsonl")
        (place.folder / "spark.jsonl").unlink()
        assert [row["id"] for row in found] == list(range(ROWS))
        assert found == here
        assert [row["id"] for row in found if row["error"]] == [0, 999, 1999]
        assert place.newest().data.metrics["failed_rows"] == 3


@pytest.mark.parametrize("master", MASTERS)
def test_a_worker_loads_once(master: str, place: Place, workplace: Workplace) -> None:
    model = listening(place.folder)
    rows = [{"question": f"{'crash' if n % 17 == 3 else 'hear'} {n}"} for n in range(100)]
    place.write("in.jsonl", rows)

    done = workplace.step("batch", *_arguments(place, model, master), "batch.partition_rows=5")

    assert done.status == 0, done.errors
    for row in place.read("spark.jsonl"):
        if row["question"].startswith("crash"):
            assert (row["answer"], row["error"]) == (None, "ValueError: no such prompt")
        else:
            assert (row["answer"], row["error"]) == (f"You said {row['question']}", None)
    loads = lines(place.folder / "loads")
    assert 1 <= len(set(loads)) == len(loads) <= 2
    assert len(lines(place.folder / "frames")) < len(rows)


@pytest.mark.parametrize("flavor", ["prompted", "pipeline"])
def test_the_other_flavors_answer_too(
    flavor: str, place: Place, workplace: Workplace, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(flavor)
    place.write("in.jsonl", _questions()[:8])
    assert place.batch(model.model_uri, "in.jsonl", "here.jsonl") == 0

    done = workplace.step(
        "batch", *_arguments(place, model.model_uri, "local[2]"), "batch.partition_rows=3"
    )

    assert done.status == 0, done.errors
    assert place.read("spark.jsonl") == place.read("here.jsonl")


def test_a_master_that_cannot_be_used_is_told(place: Place, workplace: Workplace) -> None:
    place.write("in.jsonl", _questions()[1:3])

    done = workplace.step("batch", *_arguments(place, listening(place.folder), "nonsense"))

    assert done.status == 1
    assert len(done.messages) == 1
    assert "spark.master=nonsense: Spark cannot be used: " in done.messages[0]
    assert "Traceback" not in done.errors
