"""A file answered on real Spark: two threads of this machine, and a cluster of two workers."""

import json
from importlib.util import find_spec
from typing import Any

import pytest

from steps.common.paths import PROJECT
from tests.batch.jobs import Place, lines, listening

pytestmark = pytest.mark.skipif(
    find_spec("pyspark") is None, reason="requirements-spark.txt is not installed"
)

MASTERS = ("local[2]", "local-cluster[2,1,1024]")
ROWS = 2000


def _questions() -> list[dict[str, Any]]:
    """Return 2,000 rows: the bundled questions over and over, with a few that cannot be sent."""
    file = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"
    texts = [json.loads(line)["question"] for line in file.read_text().splitlines()]
    rows: list[dict[str, Any]] = [
        {"id": number, "question": texts[number % len(texts)]} for number in range(ROWS)
    ]
    for number in (0, 999, 1999):
        rows[number]["question"] = " "
    return rows


@pytest.mark.parametrize("master", MASTERS)
def test_answers_are_those_of_this_process(master: str, place: Place, chat: Any) -> None:
    place.write("in.jsonl", _questions())
    assert place.batch(chat.model_uri, "in.jsonl", "here.jsonl") == 0

    assert place.batch(chat.model_uri, "in.jsonl", "spark.jsonl", f"spark.master={master}") == 0

    here, spark = place.read("here.jsonl"), place.read("spark.jsonl")
    assert [row["id"] for row in spark] == list(range(ROWS))
    assert spark == here
    assert [row["id"] for row in spark if row["error"]] == [0, 999, 1999]
    assert place.newest().data.metrics["failed_rows"] == 3
    assert place.names() == {"in.jsonl", "here.jsonl", "spark.jsonl"}


@pytest.mark.parametrize("master", MASTERS)
def test_a_worker_loads_once(master: str, place: Place) -> None:
    model = listening(place.folder)
    rows = [{"question": f"{'crash' if n % 17 == 3 else 'hear'} {n}"} for n in range(100)]
    place.write("in.jsonl", rows)
    options = ("batch.partition_rows=5", f"spark.master={master}")

    assert place.batch(model, "in.jsonl", "out.jsonl", *options) == 0

    found = place.read("out.jsonl")
    for row in found:
        if row["question"].startswith("crash"):
            assert (row["answer"], row["error"]) == (None, "ValueError: no such prompt")
        else:
            assert (row["answer"], row["error"]) == (f"You said {row['question']}", None)
    loads = lines(place.folder / "loads")
    assert 1 <= len(loads) <= 2
    assert len(set(loads)) == len(loads)
    assert len(lines(place.folder / "frames")) < 100
