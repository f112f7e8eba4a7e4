"""Notes on what a comparison rests on."""

import dataclasses

from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, BatchCheck, Measurement, Timing
from slmflow.reports import notes

ROWS = [
    Row([{"role": "user", "content": f"question {n}"}], "answer", location=f"line {n + 2}")
    for n in range(6)
]


def measurement(flavor: str, timed: int = 2, errors: dict[int, str] | None = None) -> Measurement:
    answers = [Answer("text", 3, 2, error=(errors or {}).get(n)) for n in range(len(ROWS))]
    model = MeasuredModel(flavor, f"models:/{flavor}", "", 1)
    timings = tuple(Timing(n, 0.2, 0.1, 3, 2) for n in range(timed))
    return Measurement(model, 1.0, 1, tuple(answers), None, timings=timings)


def test_times_name_the_rows_they_rest_on() -> None:
    same = notes.of_measurements([measurement("transformers"), measurement("genai")], ROWS)
    assert same == (
        "The times and their intervals rest on 2 rows of 6 (measurement.timed_rows), one request "
        "at a time; all other metrics rest on all rows.",
    )
    [other] = notes.of_measurements([measurement("transformers", 1), measurement("genai")], ROWS)
    assert "rest on 1 rows for transformers and 2 rows for genai of 6" in other
    [none] = notes.of_measurements([measurement("genai", 0)], ROWS)
    assert none.startswith("No row was timed")


def test_rows_not_answered_are_named_with_line_and_reason() -> None:
    errors = {1: "the prompt has 700 tokens.", 4: "unknown token"}
    both = [measurement(flavor, errors=errors) for flavor in ("transformers", "genai")]
    assert notes.of_measurements(both, ROWS)[1:] == (
        "transformers and genai did not answer 2 of 6 rows, which count as wrong: line 3: the "
        "prompt has 700 tokens; line 6: unknown token.",
    )
    differing = [measurement("transformers"), measurement("genai", errors={0: "rejected"})]
    assert notes.of_measurements(differing, ROWS)[1:] == (
        "genai did not answer 1 of 6 rows, which count as wrong: line 2: rejected.",
    )


def test_many_rows_not_answered_are_counted() -> None:
    rows = ROWS * 3
    broken = measurement("genai")
    answers = (Answer("", None, None, error="too long"),) * len(rows)
    [_, note] = notes.of_measurements([dataclasses.replace(broken, answers=answers)], rows)
    assert note.count("too long") == 10
    assert note.endswith("; and 8 more.")


def test_check_of_batches_names_the_rows_that_differ() -> None:
    equal = dataclasses.replace(measurement("genai"), batch_check=BatchCheck(8))
    differing = dataclasses.replace(measurement("transformers"), batch_check=BatchCheck(8, (0, 5)))
    assert notes.of_measurements([differing, equal], ROWS)[1:] == (
        "transformers answered 8 rows both alone and in a batch; line 2, line 7 differed.",
        "genai answered 8 rows both alone and in a batch, with equal answers.",
    )
