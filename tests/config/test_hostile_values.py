"""Evaluation data and arguments that mean harm: refused for a reason, at a bounded cost."""

import subprocess
import sys
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.errors import BadArguments
from slmflow.paths import PROJECT

# Python with the libraries takes some 100 MB of it.
MOST_MB = 900

_READ = """
import sys
from steps.common import config, memory, rows
from slmflow.errors import UserError
try:
    rows.read(config.load([f"evaluation.data={sys.argv[1]}"]))
except UserError as fault:
    print(fault)
print(memory.peak_rss_bytes() // 10**6)
"""


def _refusal(file: Path) -> str:
    """Return why a process of its own refuses a file, within its memory."""
    command = [sys.executable, "-c", _READ, str(file)]
    said = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    *message, peak_mb = said.splitlines()
    assert int(peak_mb) < MOST_MB
    return "\n".join(message)


def test_a_few_kilobytes_that_are_gigabytes_of_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.parquet"
    text = pyarrow.DictionaryArray.from_arrays(
        pyarrow.array([0] * 100_000, pyarrow.int32()), pyarrow.array(["q" * 100_000])
    )
    parquet.write_table(pyarrow.table({"question": text, "answer": ["a"] * 100_000}), file)
    assert file.stat().st_size < 10_000
    assert "holds more than 256 MB of rows" in _refusal(file)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_file_that_is_larger_than_any_data(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    with file.open("wb") as stream:
        stream.truncate(10**12)  # of holes: it takes no room
    assert "holds more than 256 MB of rows" in _refusal(file)


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_row_of_ten_megabytes(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"rows.{suffix}"
    text = "q" * 10_000_000
    file.write_text(
        f'{{"question": "{text}", "answer": "a"}}'
        if suffix == "jsonl"
        else f"question,answer\n{text},a"
    )
    assert "question has 10,000,000 characters, more than 2,000,000: cut it" in _refusal(file)


@pytest.mark.parametrize("depth", [500, 990, 100_000])
def test_a_row_that_is_nested_deep(tmp_path: Path, depth: int) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"question": ' + "[" * depth + "]" * depth + ', "answer": "a"}')
    assert "line 1: " in _refusal(file)


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("evaluation.metrics=" + "[" * 3000, "a list is wanted"),
        ("evaluation.metrics=" + "[" * 300 + "]" * 300, "a list is wanted"),
        ("evaluation.limit=" + "9" * 5000, "could not be converted to Integer"),
        ("evaluation.system=???", "'\\?\\?\\?' for a value that is missing"),
        ("evaluation.system=a\udcff", "is not UTF-8 text"),
        ("evaluation.data=" + "a" * 5000 + ".csv", "there is no file"),
        ("evaluation.data=a\0.csv", "there is no file"),
        ("evaluation.data=/dev/zero", "there is no file"),
    ],
    ids=["unclosed", "nested", "digits", "missing", "bytes", "long path", "NUL", "device"],
)
def test_arguments_that_mean_harm(argument: str, said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        configs.load(overrides.from_arguments([argument], configs.TEXTS))
