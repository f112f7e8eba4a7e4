"""A batch that is killed and started again: real processes."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.batch.jobs import lines, listening, read_rows, write_rows
from tests.fixtures.project import Workplace

SPARK = pytest.param(
    "local[2]",
    marks=pytest.mark.skipif(
        find_spec("pyspark") is None, reason="requirements-spark.txt is not installed"
    ),
)
SIZE = 4


@pytest.mark.parametrize("master", ["null", SPARK])
def test_a_killed_batch_repeats_no_finished_partition(master: str, tmp_path: Path) -> None:
    questions = [f"hear {number}" for number in range(10 * SIZE)]
    questions[7 * SIZE + 1] = "wait for me"
    write_rows(tmp_path / "in.jsonl", [{"question": question} for question in questions])
    os.mkfifo(tmp_path / "waited")
    place = Workplace(tmp_path)
    arguments = (
        f"batch.model_uri={listening(tmp_path)}",
        f"batch.input={tmp_path / 'in.jsonl'}",
        f"batch.output={tmp_path / 'out.jsonl'}",
        f"batch.partition_rows={SIZE}",
        f"spark.master={master}",
    )

    killed = subprocess.Popen(
        [sys.executable, "-m", "steps.batch", *arguments],
        cwd=tmp_path,
        env={**place.environ(), "WAITED": str(tmp_path / "waited")},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with (tmp_path / "waited").open() as waited:
        assert waited.read() == "asked"
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()

    assert not (tmp_path / "out.jsonl").exists()
    [parts] = tmp_path.glob("out.jsonl.parts-*")
    finished = {int(file.stem.partition("-")[2]) for file in parts.glob("part-*.parquet")}
    assert 7 not in finished
    assert len(finished) >= (7 if master == "null" else 1)
    assert lines(tmp_path / "asked").count("wait for me") == 1

    done = place.step("batch", *arguments)

    assert done.status == 0, done.errors
    answers = [row["answer"] for row in read_rows(tmp_path / "out.jsonl")]
    assert answers == [f"You said {question}" for question in questions]
    asked = lines(tmp_path / "asked")
    for number, question in enumerate(questions):
        if number // SIZE in finished:
            assert asked.count(question) == 1
    assert asked.count("wait for me") == 2
    assert not parts.exists()
    run = place.runs("batch")[0]
    assert run.data.metrics["answered_earlier_rows"] == len(finished) * SIZE
    assert run.data.metrics["rows"] == len(questions)
