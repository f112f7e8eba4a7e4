"""Hostile evaluation data is rejected with a reason, within bounded memory."""

from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tests.fixtures.hub import RunPython

# Python and the libraries use about 100 MB of it.
MAX_RSS_MB = 900


def _error(run_python: RunPython, file: Path) -> str:
    """Return the message of a child process that rejects a file within its memory."""
    process = run_python("-m", "tests.datasets.read_rows", f"evaluation.data={file}")
    assert process.returncode == 1
    assert 0 < int(process.stdout) < MAX_RSS_MB
    return process.stderr


def test_parquet_bomb_is_rejected(run_python: RunPython, tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    text = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 100_000, pyarrow.int32()), pyarrow.array(["q" * 100_000])
    )
    parquet.write_table(pyarrow.table({"question": text, "answer": ["a"] * 100_000}), file)
    assert file.stat().st_size < 10_000
    assert "holds more than 256 MB of rows" in _error(run_python, file)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_oversized_file_is_rejected(run_python: RunPython, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    with file.open("wb") as stream:
        stream.truncate(10**12)  # sparse: it uses no disk space
    assert "holds more than 256 MB of rows" in _error(run_python, file)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_oversized_row_is_rejected(run_python: RunPython, tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    text = "q" * 10_000_000
    file.write_text(
        f'{{"question": "{text}", "answer": "a"}}'
        if suffix == "jsonl"
        else f"question,answer\n{text},a"
    )
    assert "question has 10,000,000 characters, more than 2,000,000: shorten it" in _error(
        run_python, file
    )


@pytest.mark.parametrize("depth", [500, 990, 100_000])
def test_deeply_nested_row_is_rejected(run_python: RunPython, tmp_path: Path, depth: int) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": ' + "[" * depth + "]" * depth + ', "answer": "a"}')
    assert "line 1: " in _error(run_python, file)
