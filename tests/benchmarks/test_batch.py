"""The batch benchmark on a tiny model: Spark and one process, asked for real."""

import json
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks.harness import child_process
from slmflow.system.child_processes import environment


@pytest.mark.skipif(find_spec("pyspark") is None, reason="requirements-spark.txt is not installed")
def test_both_answer_the_same_and_are_timed(tmp_path: Path) -> None:
    output, work = tmp_path / "out", tmp_path / "work"
    asked = ("--shape", "tiny", "--rows", 70, "--rounds", 2)
    line = child_process.module_command("batch", *asked, "--output", output, "--work", work)

    done = subprocess.run(line, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    told = json.loads((output / "tiny.json").read_text())
    assert told["equal_rows"] == [70, 70]
    assert all(seconds > 0 for seconds in (*told["spark_s"], *told["in_process_s"]))
    page = (output / "tiny.md").read_text()
    assert "| rows of 70 that are equal | 70 |" in page
    assert str(tmp_path) not in page
