"""The batch benchmark with a tiny model, on real Spark and in one process."""

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.harness import child_process
from slmflow.system.child_processes import environment


@pytest.mark.skipif(find_spec("pyspark") is None, reason="requirements-spark.txt is not installed")
def test_batch_benchmark_compares_answers_and_times(tmp_path: Path) -> None:
    output, work = tmp_path / "out", tmp_path / "work"
    arguments = ("--shape", "tiny", "--rows", 70, "--rounds", 2)
    command = child_process.module_command("batch", *arguments, "--output", output, "--work", work)

    done = subprocess.run(command, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    report = json.loads((output / "tiny.json").read_text())
    assert report["equal_rows"] == [70, 70]
    assert all(seconds > 0 for seconds in (*report["spark_s"], *report["in_process_s"]))
    page = (output / "tiny.md").read_text()
    assert "| rows of 70 that are equal | 70 |" in page
    assert str(tmp_path) not in page
