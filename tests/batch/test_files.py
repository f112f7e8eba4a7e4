"""What goes in comes out, in every format; what is no input is refused before any model loads."""

import csv
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from slmflow.batch import spark
from slmflow.config.schema.batch import Spark
from slmflow.pipeline.step import run
from steps.batch import batch
from tests.batch.jobs import Place, lines, listening, write_rows
from tests.fixtures.project import Workplace

ADDED = ["answer", "prompt_tokens", "completion_tokens", "error"]


def test_csv_stays_as_it_is(place: Place) -> None:
    """Read by pandas too: numbers with zeros, formulas, quotes, line ends and blank cells."""
    rows = [
        ["id", "question", "note"],
        ["007", "=1+1", '"quoted", with a comma'],
        ["1e5", "@SUM(A1)", "two\nlines"],
        ["", "  ", "Zürich 東京"],
    ]
    with (place.folder / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)

    assert place.batch(listening(place.folder), "in.csv", "out.csv") == 0

    found = pd.read_csv(place.folder / "out.csv", dtype=str, keep_default_na=False)
    assert list(found.columns) == [*rows[0], *ADDED]
    assert found[rows[0]].to_numpy().tolist() == rows[1:]
    assert list(found["answer"]) == ["You said =1+1", "You said @SUM(A1)", ""]
    assert list(found["error"]) == ["", "", "no question and no messages"]


def test_parquet_keeps_its_types(place: Place) -> None:
    table = pa.table(
        {
            "question": ["one", None, "three"],
            "when": pa.array([dt.datetime(2026, 11, 21, 1, 2, 3, 4, dt.UTC)] * 3),
            "tags": [["a"], [], None],
            "blob": [b"\x00\xff", None, b""],
            "small": pa.array([1, 2, None], pa.int8()),
        }
    )
    parquet.write_table(table, place.folder / "in.parquet")

    assert place.batch(listening(place.folder), "in.parquet", "out.parquet") == 0

    found = parquet.read_table(place.folder / "out.parquet")
    assert found.select(table.column_names).equals(table)
    assert found.column_names == [*table.column_names, *ADDED]
    assert found["answer"].to_pylist() == ["You said one", None, "You said three"]
    assert found.schema.field("prompt_tokens").type == pa.int64()


def test_jsonl_keeps_what_a_row_holds(place: Place) -> None:
    rows: list[dict[str, Any]] = [
        {"question": "one", "extra": {"nested": [1, None]}, "none": None},
        {"question": "half \ud800", "extra": 2.5},
    ]
    place.write("in.jsonl", rows)

    assert place.batch(listening(place.folder), "in.jsonl", "out.jsonl") == 0

    found = place.read("out.jsonl")
    assert [{k: v for k, v in row.items() if k not in ADDED} for row in found] == rows
    assert "half a character" in found[1]["error"]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
@pytest.mark.parametrize("given", [".jsonl", ".csv", ".parquet"])
def test_every_format_into_every_other(given: str, suffix: str, place: Place) -> None:
    said = [{"role": "user", "content": "hear"}]
    frame = pd.DataFrame({"id": [1, 2], "messages": [said, said]})
    file = place.folder / f"in{given}"
    match given:
        case ".jsonl":
            frame.to_json(file, orient="records", lines=True)
        case ".csv":
            frame.assign(messages=[json.dumps(said)] * 2).to_csv(file, index=False)
        case _:
            frame.to_parquet(file)

    assert place.batch(listening(place.folder), file.name, f"out{suffix}") == 0

    out = place.folder / f"out{suffix}"
    match suffix:
        case ".jsonl":
            found = pd.DataFrame([json.loads(line) for line in lines(out)])
        case ".csv":
            found = pd.read_csv(out)
        case _:
            found = pd.read_parquet(out)
    assert list(found.columns) == ["id", "messages", *ADDED]
    assert [int(each) for each in found["id"]] == [1, 2]
    assert list(found["answer"]) == ["You said hear"] * 2


def test_columns_have_the_names_that_are_given(place: Place) -> None:
    place.write("in.jsonl", [{"prompt": "one", "answer": "two"}])
    names = ("batch.columns.question=prompt", "batch.columns.answer=said")

    assert place.batch(listening(place.folder), "in.jsonl", "out.jsonl", *names) == 0

    [row] = place.read("out.jsonl")
    assert (row["prompt"], row["answer"], row["said"]) == ("one", "two", "You said one")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("in.jsonl", "", "it has no rows"),
        ("in.jsonl", '{"question": "a"}\nnot json\n[1]\n', "line 2: not JSON"),
        ("in.jsonl", '{"prompt": "a"}\n', "no row has question or messages, but prompt"),
        ("in.jsonl", '{"question": "a", "error": 1}\n', "name that with batch.columns.error"),
        ("in.csv", "a,b\n1,2\n", "no row has question or messages, but a, b"),
        ("in.csv", "question,question\n1,2\n", "two columns are named question"),
        ("in.csv", "question,b\n1\n", "line 2: 1 cells, but the header has 2"),
        ("in.parquet", "no", "cannot be read as Parquet"),
    ],
)
def test_a_bad_file_is_refused(
    name: str, content: str, said: str, place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    model = listening(place.folder)
    (place.folder / name).write_text(content)

    assert place.batch(model, name, "out.csv") == 2

    shown = " ".join(capsys.readouterr().err.split())
    assert said in shown
    assert shown.count("error:") == 1
    assert not (place.folder / "loads").exists()


def test_all_that_is_wrong_is_told_at_once(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spark, "find_spec", lambda _: None)
    (place.folder / "in.csv").write_text("a\n1\n")
    (place.folder / "out.csv").write_text("mine")

    assert place.batch("models:/none@best", "in.csv", "out.csv", "spark.master=local[2]") == 2

    shown = " ".join(capsys.readouterr().err.split())
    assert "PySpark is not installed; run `uv pip install -r requirements-spark.txt`" in shown
    assert "batch.model_uri='models:/none@best': no model can be read there" in shown
    assert "out.csv' is there already: delete it, or name another" in shown
    assert "no row has question or messages, but a" in shown
    assert shown.count("error:") == 1
    assert (place.folder / "out.csv").read_text() == "mine"


def test_files_that_are_not_given_are_asked_for(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    new_run = {"experiment_id": place.experiment}

    assert run("batch", batch, ["batch.input=null"], new_run=new_run) == 2

    shown = " ".join(capsys.readouterr().err.split())
    assert "batch.input is missing" in shown
    assert "batch.output is missing" in shown
    assert shown.count("error:") == 1


def test_types_that_parquet_cannot_join_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.write("in.jsonl", [{"question": "a", "n": 1}, {"question": "b", "n": "one"}])

    assert place.batch(listening(place.folder), "in.jsonl", "out.parquet") == 2

    shown = " ".join(capsys.readouterr().err.split())
    assert "Parquet has one type for a column" in shown


def test_bytes_have_no_place_in_a_text_file(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    table = pa.table({"question": ["one"], "blob": [b"\x00"]})
    parquet.write_table(table, place.folder / "in.parquet")

    assert place.batch(listening(place.folder), "in.parquet", "out.jsonl") == 2

    assert "column blob holds bytes" in " ".join(capsys.readouterr().err.split())


def test_a_databricks_runtime_is_spark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABRICKS_RUNTIME_VERSION", raising=False)
    assert not spark.wanted(Spark())
    assert spark.wanted(Spark("local[2]"))
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")
    assert spark.wanted(Spark())


_ON_A_VOLUME = """
import sys
from tests.fixtures.volume import behave
behave(sys.argv.pop(1))
from steps.batch import batch
from slmflow.pipeline.step import run_step
run_step("batch", batch)
"""


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_input_and_output_may_lie_on_a_volume(tmp_path: Path, suffix: str) -> None:
    volume = tmp_path / "Volumes"
    volume.mkdir()
    write_rows(volume / "in.jsonl", [{"question": "one"}, {"question": "two"}])
    given = (
        f"batch.model_uri={listening(tmp_path)}",
        f"batch.input={volume}/in.jsonl",
        f"batch.output={volume}/out{suffix}",
        "batch.partition_rows=1",
    )

    done = subprocess.run(
        [sys.executable, "-c", _ON_A_VOLUME, str(volume), *given],
        cwd=tmp_path,
        env=Workplace(tmp_path).environ(),
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    assert {file.name for file in volume.iterdir()} == {"in.jsonl", f"out{suffix}"}
    assert "You said two" in str((volume / f"out{suffix}").read_bytes())
