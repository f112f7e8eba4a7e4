"""Input and output formats, and problems that are reported before the model is loaded."""

import csv
import datetime as dt
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from slmflow.batch import spark
from slmflow.config.schema.batch import Spark
from slmflow.pipeline.step_runner import run
from steps.batch import batch
from tests.batch.workspace import BatchFolder, BatchWorkspace
from tests.datasets.test_rows import write_table
from tests.fixtures.project import Sandbox

ADDED = ["answer", "prompt_tokens", "completion_tokens", "error"]


def _only_error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a step printed: one error message, on one line."""
    stderr = " ".join(capsys.readouterr().err.split())
    assert stderr.count("error:") == 1
    return stderr


def test_csv_cells_are_unchanged(workspace: BatchWorkspace) -> None:
    """Numbers with zeros, formulas, quotes, line ends and blank cells, as pandas reads them."""
    rows = [
        ["id", "question", "note"],
        ["007", "=1+1", '"quoted", with a comma'],
        ["1e5", "@SUM(A1)", "two\nlines"],
        ["", "  ", "Zürich 東京"],
    ]
    with (workspace.folder / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)

    assert workspace.batch(workspace.save_echo_model(), "in.csv", "out.csv") == 0

    output = pd.read_csv(workspace.folder / "out.csv", dtype=str, keep_default_na=False)
    assert list(output.columns) == [*rows[0], *ADDED]
    assert output[rows[0]].to_numpy().tolist() == rows[1:]
    assert list(output["answer"]) == ["You said =1+1", "You said @SUM(A1)", ""]
    assert list(output["error"]) == ["", "", "no question and no messages"]


def test_parquet_types_are_unchanged(workspace: BatchWorkspace) -> None:
    table = pa.table(
        {
            "question": ["one", None, "three"],
            "when": pa.array([dt.datetime(2026, 11, 21, 1, 2, 3, 4, dt.UTC)] * 3),
            "tags": [["a"], [], None],
            "blob": [b"\x00\xff", None, b""],
            "small": pa.array([1, 2, None], pa.int8()),
        }
    )
    parquet.write_table(table, workspace.folder / "in.parquet")

    assert workspace.batch(workspace.save_echo_model(), "in.parquet", "out.parquet") == 0

    output = parquet.read_table(workspace.folder / "out.parquet")
    assert output.select(table.column_names).equals(table)
    assert output.column_names == [*table.column_names, *ADDED]
    assert output["answer"].to_pylist() == ["You said one", None, "You said three"]
    assert output.schema.field("prompt_tokens").type == pa.int64()


def test_jsonl_values_are_unchanged(workspace: BatchWorkspace) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "one", "extra": {"nested": [1, None]}, "none": None},
        {"question": "half \ud800", "extra": 2.5},
    ]
    workspace.write("in.jsonl", rows)

    assert workspace.batch(workspace.save_echo_model(), "in.jsonl", "out.jsonl") == 0

    output = workspace.read("out.jsonl")
    assert [{k: v for k, v in row.items() if k not in ADDED} for row in output] == rows
    assert "half a character" in output[1]["error"]


@pytest.mark.parametrize("output_suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("input_suffix", [".jsonl", ".csv", ".parquet"])
def test_every_format_converts_to_every_other(
    input_suffix: str, output_suffix: str, workspace: BatchWorkspace
) -> None:
    messages = [{"role": "user", "content": "hello"}]
    file = write_table(
        workspace.folder / f"in{input_suffix}", {"id": [1, 2], "messages": [messages] * 2}
    )

    status = workspace.batch(workspace.save_echo_model(), file.name, f"out{output_suffix}")

    assert status == 0
    read = {
        ".jsonl": partial(pd.read_json, lines=True),
        ".csv": pd.read_csv,
        ".parquet": pd.read_parquet,
    }[output_suffix]
    output = read(workspace.folder / f"out{output_suffix}")
    assert list(output.columns) == ["id", "messages", *ADDED]
    assert [int(number) for number in output["id"]] == [1, 2]
    assert list(output["answer"]) == ["You said hello"] * 2


def test_column_names_are_configurable(workspace: BatchWorkspace) -> None:
    workspace.write("in.jsonl", [{"prompt": "one", "answer": "two"}])
    columns = ("batch.columns.question=prompt", "batch.columns.answer=reply")

    assert workspace.batch(workspace.save_echo_model(), "in.jsonl", "out.jsonl", *columns) == 0

    [row] = workspace.read("out.jsonl")
    assert (row["prompt"], row["answer"], row["reply"]) == ("one", "two", "You said one")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.jsonl", "", "it has no rows"),
        ("in.jsonl", '{"question": "a"}\nnot json\n[1]\n', "line 2: not JSON"),
        ("in.jsonl", '{"prompt": "a"}\n', "has question or messages; the columns are prompt: name"),
        (
            "in.jsonl",
            '{"question": "a", "error": 1}\n',
            "its column error has the name of an output column: rename the output column with "
            "batch.columns.error",
        ),
        ("in.csv", "a,b\n1,2\n", "no row has question or messages; the columns are a, b: name"),
        ("in.csv", "question,question\n1,2\n", "two columns are named question"),
        ("in.csv", "question,b\n1\n", "line 2: 1 cells, but the header has 2"),
        ("in.parquet", "no", "cannot be read as Parquet"),
    ],
)
def test_invalid_input_fails_before_model_loads(
    name: str,
    content: str,
    message: str,
    workspace: BatchWorkspace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = workspace.save_echo_model()
    (workspace.folder / name).write_text(content)

    assert workspace.batch(model, name, "out.csv") == 2

    assert message in _only_error(capsys)
    assert workspace.echo_log("loads") == []


def test_all_problems_are_one_message(
    workspace: BatchWorkspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark, "find_spec", lambda _: None)
    (workspace.folder / "in.csv").write_text("a\n1\n")
    (workspace.folder / "out.csv").write_text("mine")

    assert workspace.batch("models:/none@best", "in.csv", "out.csv", "spark.master=local[2]") == 2

    stderr = _only_error(capsys)
    assert "PySpark is not installed; run `uv pip install -r requirements-spark.txt`" in stderr
    assert "batch.model_uri='models:/none@best': no model can be read from there" in stderr
    assert "out.csv' already exists: delete it, or choose another name" in stderr
    assert "no row has question or messages; the columns are a: name yours" in stderr
    assert (workspace.folder / "out.csv").read_text() == "mine"


def test_missing_files_are_named(
    workspace: BatchWorkspace, capsys: pytest.CaptureFixture[str]
) -> None:
    new_run = {"experiment_id": workspace.experiment}

    assert run("batch", batch, ["batch.input=null"], new_run=new_run) == 2

    stderr = _only_error(capsys)
    assert "batch.input is missing" in stderr
    assert "batch.output is missing" in stderr


@pytest.mark.parametrize(
    ("name", "columns", "output", "message"),
    [
        (
            *("in.jsonl", {"question": ["a", "b"], "n": [1, "one"]}, "out.parquet"),
            "a Parquet column has one type, but a column here has several",
        ),
        (
            *("in.parquet", {"question": ["one"], "blob": [b"\x00"]}, "out.jsonl"),
            "column blob holds bytes",
        ),
    ],
)
def test_values_that_the_output_cannot_hold_are_rejected(
    name: str,
    columns: dict[str, list[Any]],
    output: str,
    message: str,
    workspace: BatchWorkspace,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_table(workspace.folder / name, columns)

    assert workspace.batch(workspace.save_echo_model(), name, output) == 2

    assert message in _only_error(capsys)


def test_databricks_runtime_enables_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    assert not spark.is_enabled(Spark())
    assert spark.is_enabled(Spark("local[2]"))
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    assert spark.is_enabled(Spark())


_BATCH_ON_A_VOLUME = """
import sys
from tests.fixtures.volume import act_as_volume
act_as_volume(sys.argv[1])
from steps.batch import batch
from slmflow.pipeline.step_runner import run
for output in ("out.jsonl", "out.csv", "out.parquet"):
    given = [each.replace("out.jsonl", output) for each in sys.argv[2:]]
    assert run("batch", batch, given) == 0, output
"""


def test_input_and_output_work_on_a_volume(tmp_path: Path) -> None:
    """In every format, in a process of its own: the system calls that a volume lacks fail there."""
    volume = tmp_path / "Volumes"
    volume.mkdir()
    BatchFolder(volume).write("in.jsonl", [{"question": "one"}, {"question": "two"}])
    model = BatchFolder(tmp_path).save_echo_model()
    arguments = BatchFolder(volume).arguments(model, "in.jsonl", "out.jsonl")

    done = subprocess.run(
        [
            sys.executable,
            "-c",
            _BATCH_ON_A_VOLUME,
            str(volume),
            *arguments,
            "batch.partition_rows=1",
        ],
        cwd=tmp_path,
        env=Sandbox(tmp_path).environ(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    outputs = {f"out{suffix}" for suffix in (".jsonl", ".csv", ".parquet")}
    assert {file.name for file in volume.iterdir()} == {"in.jsonl", *outputs}
    for output in outputs:
        assert "You said two" in str((volume / output).read_bytes())
