"""Kill a batch job and run it again, in real processes."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.batch.workspace import BatchFolder
from tests.fixtures.project import Sandbox

SPARK = pytest.param(
    "local[2]",
    marks=pytest.mark.skipif(
        find_spec("pyspark") is None, reason="requirements-spark.txt is not installed"
    ),
)
SIZE = 4


@pytest.mark.parametrize("master", ["null", SPARK])
def test_killed_job_repeats_no_finished_partition(master: str, tmp_path: Path) -> None:
    questions = [f"hello {number}" for number in range(10 * SIZE)]
    questions[7 * SIZE + 1] = "wait for me"
    folder = BatchFolder(tmp_path)
    folder.write("in.jsonl", [{"question": question} for question in questions])
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    project = Sandbox(tmp_path)
    arguments = folder.arguments(folder.save_echo_model(), "in.jsonl", "out.jsonl")
    arguments += [f"batch.partition_rows={SIZE}", f"spark.master={master}"]

    process = subprocess.Popen(
        [sys.executable, "-m", "steps.batch", *arguments],
        cwd=tmp_path,
        env={**project.environ(), "WAIT_PIPE": str(pipe)},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert pipe.read_text() == "waiting"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()

    assert not (tmp_path / "out.jsonl").exists()
    [parts] = tmp_path.glob("out.jsonl.parts-*")
    finished = {int(file.stem.partition("-")[2]) for file in parts.glob("part-*.parquet")}
    assert 7 not in finished
    assert len(finished) >= (7 if master == "null" else 1)
    assert folder.echo_log("prompts").count("wait for me") == 1

    project.run_step("batch", *arguments).check()

    answers = [row["answer"] for row in folder.read("out.jsonl")]
    assert answers == [f"You said {question}" for question in questions]
    prompts = folder.echo_log("prompts")
    for number, question in enumerate(questions):
        if number // SIZE in finished:
            assert prompts.count(question) == 1
    assert prompts.count("wait for me") == 2
    assert not parts.exists()
    run = project.runs("batch")[0]
    assert run.data.metrics["answered_earlier_rows"] == len(finished) * SIZE
    assert run.data.metrics["rows"] == len(questions)
