import dataclasses

from slmflow.metrics.subjects import MACRO, SubjectAccuracy
from slmflow.reports import tables
from slmflow.reports.formatting import Cell
from tests.metrics.samples import COMPARISON, GENAI, TRANSFORMERS


def test_significant_effects_are_marked() -> None:
    rows = {row.name: row for row in tables.metric_table(COMPARISON).rows}
    assert rows["exact_match"].cells[0] == Cell("97.4%", "94.9% to 99.5%")
    assert (rows["exact_match"].p_value, rows["exact_match"].effect) == ("0.688", "")
    assert (rows["token_f1"].p_value, rows["token_f1"].effect) == ("0.031", "worse")
    assert rows["perplexity"].cells[1].text == "-"


def test_headlines_are_measured_for_every_model() -> None:
    assert list(tables.headlines(COMPARISON)) == ["exact match", "median latency", "model size"]


def test_insignificant_differences_are_not_claimed() -> None:
    equal = dataclasses.replace(GENAI, p_values={"exact_match": 0.05, "token_f1": 1.0})
    comparison = dataclasses.replace(COMPARISON, models=(TRANSFORMERS, equal))
    assert tables.differences(comparison).endswith(
        "genai shows no significant difference from transformers."
    )
    alone = dataclasses.replace(COMPARISON, models=(TRANSFORMERS,))
    assert tables.differences(alone) == ""


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
