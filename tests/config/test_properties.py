"""What holds of any input: it is read, or refused by a message for the user."""

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pyarrow
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from pyarrow import parquet

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.config.schema.evaluation import Columns, EvaluationData
from slmflow.datasets import readers
from slmflow.datasets.rows import _parse
from slmflow.errors import BadArguments, UserError

# The machine may be slow, and a failure must come again.
FEW = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
MANY = settings(FEW, max_examples=200)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# What means something to Hydra, to YAML or to a shell.
CODE = st.text(st.sampled_from("[]{}(),:='\"\\$`;|&<>*?~!#%@ \n\t\r\0null01.e-_aé日"), max_size=40)
KEYS = st.sampled_from(list(configs._keys(configs.Config))).map(
    lambda key: key.replace(overrides.ANY_NAME, "token_f1")
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
JSON = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)
)
NAMES = st.sampled_from(["question", "answer", "messages", "choices", "subject", "other"])
ROW: SearchStrategy[Any] = st.dictionaries(NAMES, JSON, max_size=4)


def _taken(key: str, text: str) -> Any:
    """Return the value that a key has in the config where `-P` gives this text."""
    given = overrides.from_arguments([f"--{key}", text], configs.TEXTS)
    return configs.leaves(configs.load(given))[key]


@given(text=TEXT | CODE)
@FEW  # a config takes a tenth of a second
def test_any_text_comes_back_from_the_config(text: str) -> None:
    if "${" in text or text in ("???", "null") or not text.strip():
        return  # the first two are refused by name; null is no text, a blank one is refused
    given = f"{{question}}{text}"
    assert _taken("evaluation.template", given) == given
    quoted = overrides._QUOTED.fullmatch(text)
    if not quoted:
        assert _taken("evaluation.system", text) == text


@given(
    arguments=st.lists(
        st.tuples(KEYS | TEXT | CODE, TEXT | CODE | PLAIN.map(str)).map("=".join)
        | KEYS.map("--{}".format)
        | TEXT
        | CODE,
        max_size=3,
    )
)
@FEW
def test_no_argument_is_a_fault_of_ours(arguments: list[str]) -> None:
    try:
        found = configs.load(overrides.from_arguments(arguments, configs.TEXTS))
    except BadArguments as refused:
        assert str(refused)
    else:
        json.dumps(configs.plain(found))


def _read(content: bytes, suffix: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / f"rows{suffix}"
        file.write_bytes(content)
        try:
            rows, problems = _parse(file, file.name, EvaluationData(data=str(file)))
        except UserError as refused:
            assert str(refused)
            return
    assert bool(rows) != bool(problems)
    for row in rows:
        assert row.messages[-1]["role"] == "user"
        assert all(isinstance(each["content"], str) for each in row.messages)
        assert isinstance(row.answer, str)


@given(rows=st.lists(ROW | JSON, max_size=4), suffix=st.sampled_from([".jsonl", ".csv"]))
@MANY
def test_any_json_lines_are_rows_or_refused(rows: list[Any], suffix: str) -> None:
    _read("\n".join(json.dumps(row) for row in rows).encode(), suffix)


@given(content=st.binary(max_size=200), suffix=st.sampled_from([".jsonl", ".csv", ".parquet"]))
@MANY
def test_any_bytes_are_rows_or_refused(content: bytes, suffix: str) -> None:
    _read(content, suffix)
    _read(b"question,answer\n" + content, suffix)


@given(
    cells=st.lists(
        st.tuples(TEXT | CODE, TEXT | CODE).filter(lambda row: all(cell.strip() for cell in row)),
        min_size=1,
        max_size=4,
    )
)
@FEW
def test_texts_come_back_from_every_format(cells: list[tuple[str, str]]) -> None:
    """Formulas, quotes and NULs too: nothing of a cell is understood."""
    import csv

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
            assert [each.fields for each in readers.read(file, Columns())] == records


@given(value=JSON)
@FEW
def test_whatever_is_shown_is_short(value: Any) -> None:
    assert len(readers.shown(value)) <= 80 or (isinstance(value, float) and math.isnan(value))
