"""Any evaluation data is read, or rejected with a message for the user."""

import csv
import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pyarrow import parquet

from slmflow.config.schema.evaluation import EvaluationData
from slmflow.datasets import readers
from slmflow.datasets.rows import parse_file
from slmflow.errors import UserError
from tests.fixtures.hostile_text import FEW, MANY, SCALAR, SYNTAX, TEXT

JSON = st.recursive(
    SCALAR, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
NAMES = st.sampled_from(["question", "answer", "messages", "choices", "subject", "other"])
SPELLED = st.lists(TEXT, max_size=3).flatmap(
    lambda texts: st.sampled_from(
        [
            texts,
            {"text": texts, "answer_start": [0 for _ in texts]},
            [{"text": text} for text in texts],
            {"value": "a", "aliases": texts},
            json.dumps(texts),
        ]
    )
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT | JSON}
    ),
    max_size=3,
)
CHAT = st.fixed_dictionaries({"messages": MESSAGES}, optional={"answer": SPELLED | TEXT})
ROW: SearchStrategy[Any] = st.dictionaries(NAMES, JSON | SPELLED | MESSAGES, max_size=4)


def _assert_rows_or_error(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"rows{suffix}"
        file.write_bytes(content)
        try:
            rows, problems = parse_file(file, file.name, EvaluationData(data=str(file)))
        except UserError as error:
            assert str(error)
            return
    assert bool(rows) != bool(problems)
    for row in rows:
        assert row.messages[-1]["role"] == "user"
        assert all(isinstance(each["content"], str) for each in row.messages)
        assert all(isinstance(answer, str) and answer.strip() for answer in row.accepted_answers)
        assert len(set(row.accepted_answers)) == len(row.accepted_answers)


@given(rows=st.lists(ROW | CHAT | JSON, max_size=4), suffix=st.sampled_from([".jsonl", ".csv"]))
@MANY
def test_any_json_is_read_or_rejected(rows: list[Any], suffix: str) -> None:
    _assert_rows_or_error("\n".join(json.dumps(row) for row in rows).encode(), suffix)


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".jsonl", ".csv", ".parquet"]))
@MANY
def test_any_bytes_are_read_or_rejected(content: bytes, suffix: str) -> None:
    _assert_rows_or_error(content, suffix)
    _assert_rows_or_error(b"question,answer\n" + content, suffix)


@given(
    cells=st.lists(
        st.tuples(TEXT | SYNTAX, TEXT | SYNTAX).filter(
            lambda row: all(cell.strip() for cell in row)
        ),
        min_size=1,
        max_size=4,
    )
)
@FEW
def test_every_format_keeps_texts(cells: list[tuple[str, str]]) -> None:
    """Formulas, quotes and NULs too: the readers interpret no cell."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"rows{suffix}" for suffix in (".jsonl", ".csv", ".parquet")]
        records = [{"question": question, "answer": answer} for question, answer in cells]
        files[0].write_text("\n".join(map(json.dumps, records)))
        with files[1].open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ["question", "answer"], quoting=csv.QUOTE_ALL)
            writer.writeheader()
            writer.writerows(records)
        parquet.write_table(pyarrow.Table.from_pylist(records), files[2])
        for file in files:
            assert [each.fields for each in readers.read(file, lambda _: None)] == records


@given(value=JSON)
@FEW
def test_shown_values_are_short(value: Any) -> None:
    assert len(readers.short_repr(value)) <= 80 or (isinstance(value, float) and math.isnan(value))
