import dataclasses

import pytest

from slmflow.metrics.model_metrics import METRIC_COLUMNS
from slmflow.metrics.subjects import MACRO, SubjectAccuracy
from slmflow.metrics.uncertainty import Difference
from slmflow.reports import tables
from slmflow.reports.formatting import Cell, format_difference
from tests.metrics.samples import COMPARISON, GENAI, TRANSFORMERS


def test_significant_effects_are_marked() -> None:
    rows = {row.name: row for row in tables.metric_table(COMPARISON).rows}
    assert rows["exact_match"].cells[0] == Cell("97.4%", "94.9% to 99.5%")
    assert (rows["exact_match"].p_value, rows["exact_match"].effect) == ("0.688", "")
    assert (rows["token_f1"].p_value, rows["token_f1"].effect) == ("0.031", "worse")
    assert rows["perplexity"].cells[1].text == "-"


def test_headlines_are_measured_for_every_model() -> None:
    assert list(tables.headlines(COMPARISON)) == ["exact match", "median latency", "model size"]


def test_differences_have_their_units() -> None:
    perplexity = {"perplexity": Difference(1.0312, 1.02, 1.0449)}
    genai = dataclasses.replace(GENAI, differences=GENAI.differences | perplexity)
    comparison = dataclasses.replace(COMPARISON, models=(TRANSFORMERS, genai))
    table = tables.metric_table(comparison)
    rows = {row.name: row.difference for row in table.rows}
    assert rows["exact_match"] == Cell("-1.0 points", "-3.6 to +1.6")
    assert rows["perplexity"] == Cell("+3.1 %", "+2.0 to +4.5")
    assert rows["politeness"] == Cell("-2.8", "-3.1 to -2.4")
    assert rows["latency_ms_p50"].text == "-"
    assert table.models == ("transformers (fp32)", "genai (int4)")


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (0.5, "+50.0"), (-0.0004, "-0.04"), (3e-6, "+0.0003"), (-1e-9, "0")],
)
def test_difference_has_enough_digits(value: float, text: str) -> None:
    cell = format_difference(METRIC_COLUMNS["exact_match"], Difference(value, value, value))
    assert cell == Cell(f"{text} points", f"{text} to {text}")


def test_subject_table_ends_with_the_macro_average() -> None:
    table = tables.subject_table(
        [
            SubjectAccuracy("law", "transformers", 4, 0.75, (0.25, 1.0)),
            SubjectAccuracy("law", "genai", 4, 0.25, p_value=0.5),
            SubjectAccuracy(MACRO, "transformers", 4, 0.75),
            SubjectAccuracy(MACRO, "genai", 4),
        ]
    )
    assert table.models == ("transformers", "genai")
    rows = [
        [row.name, row.note, *(cell.text for cell in row.cells), row.p_value] for row in table.rows
    ]
    assert rows == [
        ["law", "4", "75.0% (25.0% to 100.0%)", "25.0%", "0.500"],
        ["macro average", "4", "75.0%", "-", "-"],
    ]
