"""The batch benchmark with a tiny model, on real Spark and in one process."""

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("pyspark") is None, reason="requirements-spark.txt is not installed")
def test_batch_benchmark_compares_answers_and_times(
    run_benchmark: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = ("--shape", "tiny", "--rows", 70, "--rounds", 2)

    output = run_benchmark("batch", *arguments, "--work", tmp_path / "work")

    report = json.loads((output / "tiny.json").read_text())
    assert report["equal_rows"] == [70, 70]
    assert all(seconds > 0 for seconds in (*report["spark_s"], *report["in_process_s"]))
    assert "| rows of 70 that are equal | 70 |" in (output / "tiny.md").read_text()
