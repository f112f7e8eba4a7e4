"""Accuracy by subject, against figures made by hand or by scipy."""

import dataclasses
from itertools import product

import mlflow
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from slmflow.metrics import subjects
from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.metrics.scoring import ACCURACY, estimate_uncertainty
from slmflow.metrics.subjects import MACRO, SubjectAccuracy, accuracy_by_subject
from slmflow.metrics.uncertainty import mean, macro_average_interval
from tests.metrics.samples import GENAI, TRANSFORMERS

# Subject, the right letter, and what two models choose.
ROWS = pd.DataFrame(
    [
        ("law", "A", "A", "A"),
        ("art|x", "B", "B", "B"),
        ("law", "C", "C", "A"),
        ("law", "D", "D", "A"),
        ("art|x", "A", "B", "A"),
        ("law", "B", "A", "A"),
    ],
    columns=["subject", "answer", "first", "second"],
)


def compared(rows: pd.DataFrame, *models: str) -> tuple[EvaluatedModel, ...]:
    """Return the models' tables; the second is sorted in another way, as evaluate sorts it."""
    tables = [rows[["subject", "answer"]].assign(choice=rows[model]) for model in models]
    figures = [dataclasses.replace(each, accuracy=0.5) for each in (TRANSFORMERS, GENAI)]
    tables[1:] = [table.iloc[::-1] for table in tables[1:]]
    return tuple(EvaluatedModel(row, table, "run") for row, table in zip(figures, tables, strict=False))


def test_each_subject_and_the_macro_average() -> None:
    lines = accuracy_by_subject(compared(ROWS, "first", "second"))
    told = [(line.subject, line.flavor, line.n, line.accuracy) for line in lines]
    assert told == [
        ("art|x", "transformers", 2, 0.5),
        ("art|x", "genai", 2, 1.0),
        ("law", "transformers", 4, 0.75),
        ("law", "genai", 4, 0.25),
        (MACRO, "transformers", 6, (0.5 + 0.75) / 2),
        (MACRO, "genai", 6, (1.0 + 0.25) / 2),
    ]
    assert [line.p for line in lines[::2]] == [None] * 3
    # Law: two rows differ, both for the reference; art: one row, where a swap says nothing.
    assert lines[3].p == pytest.approx(stats.binomtest(0, 2).pvalue)
    assert lines[1].p == 1
    assert lines[1].interval == pytest.approx((0.05**0.5, 1))  # the rule of three
    low, high = lines[2].interval or (0, 0)
    assert low <= 0.75 <= high


def test_p_of_the_macro_average_is_over_all_swaps_of_rows() -> None:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"subject": rng.choice(["a", "b", "c"], 30, p=[0.6, 0.3, 0.1])})
    rows["answer"] = "A"
    rows["first"] = rng.choice(["A", "B"], 30)
    rows["second"] = rows["first"]
    changed = rng.choice(30, 9, replace=False)
    rows.loc[changed, "second"] = rng.choice(["A", "B"], 9, p=[0.9, 0.1])
    right = {name: (rows[name] == "A").groupby(rows["subject"]) for name in ("first", "second")}
    macro = {name: groups.mean().mean() for name, groups in right.items()}
    *_, reference, other = accuracy_by_subject(compared(rows, "first", "second"))
    assert (reference.accuracy, other.accuracy) == pytest.approx(tuple(macro.values()))

    weight = 1 / (3 * rows.groupby("subject")["subject"].transform("size"))
    parts = ((rows["second"] == "A").astype(int) - (rows["first"] == "A").astype(int)) * weight
    parts = parts[parts != 0].to_numpy()
    swapped = np.array([parts @ signs for signs in product((1, -1), repeat=len(parts))])
    beyond = np.abs(swapped) >= abs(parts.sum()) - 1e-12
    assert other.p == pytest.approx(beyond.mean())


def test_interval_of_the_macro_average_is_that_of_scipy_within_each_subject() -> None:
    groups = [np.repeat([1.0, 0.0], each) for each in ((30, 10), (12, 18), (150, 50))]
    theirs = stats.bootstrap(
        groups,
        lambda *drawn, axis: np.mean([each.mean(axis=axis) for each in drawn], axis=0),
        method="percentile",
        vectorized=True,
        rng=3,
    ).confidence_interval
    right, n = np.array([30, 12, 150]), np.array([40, 30, 200])
    assert macro_average_interval(right, n) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert macro_average_interval(n, n) is None


def test_a_model_that_does_not_tell_has_no_figure() -> None:
    rows = ROWS.assign(second=None)
    lines = accuracy_by_subject(compared(rows, "first", "second"))
    assert [line.accuracy for line in lines[1::2]] == [None] * 3
    assert [line.accuracy for line in lines[::2]] == [0.5, 0.75, 0.625]
    assert lines[1].written() == "-"
    assert accuracy_by_subject(compared(rows, "second")) == ()
    swapped = accuracy_by_subject(compared(rows, "second", "first"))
    assert [line.p for line in swapped] == [None] * 6
    assert accuracy_by_subject(compared(ROWS, "first"))[-1].accuracy == 0.625


def test_rows_without_subjects_have_no_lines() -> None:
    (one,) = compared(ROWS, "first")
    assert accuracy_by_subject([dataclasses.replace(one, table=one.table.drop(columns="subject"))]) == ()


def test_who_does_not_tell_is_named() -> None:
    first, second = compared(ROWS.assign(second=None), "first", "second")
    second = dataclasses.replace(second, figures=dataclasses.replace(GENAI, accuracy=None))
    (sentence,) = subjects.describe_missing_accuracy([first, second])
    assert sentence.startswith("genai tells no log-probabilities")
    assert sentence.endswith("its accuracy is not measured.")
    plain = dataclasses.replace(second, table=second.table.drop(columns="choice"))
    assert subjects.describe_missing_accuracy([first, plain]) == []


def test_markdown() -> None:
    lines = accuracy_by_subject(compared(ROWS, "first", "second"))
    bounds = {"interval": None}
    bare = [dataclasses.replace(line, **bounds) for line in lines]
    bare[2] = dataclasses.replace(bare[2], interval=(0.25, 1.0))
    assert subjects.markdown(bare) == [
        "## Accuracy by subject",
        "| subject | n | transformers | genai | p |\n"
        "| --- | ---: | ---: | ---: | ---: |\n"
        "| art\\|x | 2 | 50.0% | 100.0% | 1.000 |\n"
        "| law | 4 | 75.0% (25.0% to 100.0%) | 25.0% | 0.500 |\n"
        "| macro average | 6 | 62.5% | 62.5% | 1.000 |",
        "macro average: the mean over the subjects.",
    ]


def test_what_is_logged(tracking: str) -> None:
    lines = [
        SubjectAccuracy("law", "genai", 4, 0.25, (0.0, 0.5), 0.5),
        SubjectAccuracy(MACRO, "genai", 4, 0.25),
    ]
    with mlflow.start_run() as run:
        subjects.log(())
        assert mlflow.artifacts.list_artifacts(run_id=run.info.run_id) == []
        subjects.log(lines)
    table = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/subjects.json")
    names = "subject flavor n accuracy accuracy_low accuracy_high accuracy_p"
    assert " ".join(table["columns"]) == names
    assert table["data"] == [
        ["law", "genai", 4, 0.25, 0.0, 0.5, 0.5],
        [MACRO, "genai", 4, 0.25, None, None, None],
    ]
    assert mlflow.get_run(run.info.run_id).data.metrics == {"genai.accuracy_macro": 0.25}


def test_a_subject_is_scored_as_all_rows_are() -> None:
    """Of one subject alone, its line has the figures of the whole comparison."""
    rows = ROWS.assign(subject="all")
    reference, other = compared(rows, "first", "second")
    lines = accuracy_by_subject([reference, other])
    table = other.table.sort_index()
    sure = estimate_uncertainty([ACCURACY], table, reference.table)
    for line in (lines[1], lines[3]):
        assert line.accuracy == pytest.approx(mean(ACCURACY.rows(table).sum(axis=0)))
        assert line.p == pytest.approx(sure.p_values["accuracy"])
    assert lines[1].interval == sure.intervals["accuracy"]
