"""Accuracy by subject, compared with manual calculations and scipy."""

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
from slmflow.metrics.uncertainty import macro_average_interval, mean
from tests.metrics.samples import GENAI, TRANSFORMERS

# Subject, correct letter, and the choices of two models.
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


def evaluate(rows: pd.DataFrame, *models: str) -> tuple[EvaluatedModel, ...]:
    """Return the models; the table of the second has another order, as in evaluate."""
    tables = [rows[["subject", "answer"]].assign(choice=rows[model]) for model in models]
    metrics = [dataclasses.replace(each, accuracy=0.5) for each in (TRANSFORMERS, GENAI)]
    tables[1:] = [table.iloc[::-1] for table in tables[1:]]
    return tuple(EvaluatedModel(*pair, "run") for pair in zip(metrics, tables, strict=False))


def test_accuracy_of_each_subject_and_macro_average() -> None:
    lines = accuracy_by_subject(evaluate(ROWS, "first", "second"))
    values = [(line.subject, line.flavor, line.n, line.accuracy) for line in lines]
    assert values == [
        ("art|x", "transformers", 2, 0.5),
        ("art|x", "genai", 2, 1.0),
        ("law", "transformers", 4, 0.75),
        ("law", "genai", 4, 0.25),
        (MACRO, "transformers", 6, (0.5 + 0.75) / 2),
        (MACRO, "genai", 6, (1.0 + 0.25) / 2),
    ]
    assert [line.p_value for line in lines[::2]] == [None] * 3
    # In law, two rows differ, both in favor of the reference; in art|x, one row differs.
    assert lines[3].p_value == pytest.approx(stats.binomtest(0, 2).pvalue)
    assert lines[1].p_value == 1
    assert lines[1].interval == pytest.approx((0.05**0.5, 1))  # the rule of three
    low, high = lines[2].interval or (0, 0)
    assert low <= 0.75 <= high


def test_macro_p_value_is_over_all_swaps_of_rows() -> None:
    rng = np.random.default_rng(1)
    rows = pd.DataFrame({"subject": rng.choice(["a", "b", "c"], 30, p=[0.6, 0.3, 0.1])})
    rows["answer"] = "A"
    rows["first"] = rng.choice(["A", "B"], 30)
    rows["second"] = rows["first"]
    changed = rng.choice(30, 9, replace=False)
    rows.loc[changed, "second"] = rng.choice(["A", "B"], 9, p=[0.9, 0.1])
    correct = {name: (rows[name] == "A").groupby(rows["subject"]) for name in ("first", "second")}
    macro = {name: groups.mean().mean() for name, groups in correct.items()}
    *_, reference, other = accuracy_by_subject(evaluate(rows, "first", "second"))
    assert (reference.accuracy, other.accuracy) == pytest.approx(tuple(macro.values()))

    weight = 1 / (3 * rows.groupby("subject")["subject"].transform("size"))
    parts = ((rows["second"] == "A").astype(int) - (rows["first"] == "A").astype(int)) * weight
    parts = parts[parts != 0].to_numpy()
    swapped = np.array([parts @ signs for signs in product((1, -1), repeat=len(parts))])
    extreme = np.abs(swapped) >= abs(parts.sum()) - 1e-12
    assert other.p_value == pytest.approx(extreme.mean())


def test_macro_interval_matches_scipy_within_each_subject() -> None:
    groups = [np.repeat([1.0, 0.0], each) for each in ((30, 10), (12, 18), (150, 50))]
    theirs = stats.bootstrap(
        groups,
        lambda *drawn, axis: np.mean([each.mean(axis=axis) for each in drawn], axis=0),
        method="percentile",
        vectorized=True,
        rng=3,
    ).confidence_interval
    correct, n = np.array([30, 12, 150]), np.array([40, 30, 200])
    assert macro_average_interval(correct, n) == pytest.approx((theirs.low, theirs.high), abs=0.005)
    assert macro_average_interval(n, n) is None


def test_model_without_scores_has_no_accuracy() -> None:
    rows = ROWS.assign(second=None)
    lines = accuracy_by_subject(evaluate(rows, "first", "second"))
    assert [line.accuracy for line in lines[1::2]] == [None] * 3
    assert [line.accuracy for line in lines[::2]] == [0.5, 0.75, 0.625]
    assert accuracy_by_subject(evaluate(rows, "second")) == ()
    swapped = accuracy_by_subject(evaluate(rows, "second", "first"))
    assert [line.p_value for line in swapped] == [None] * 6
    assert accuracy_by_subject(evaluate(ROWS, "first"))[-1].accuracy == 0.625


def test_rows_without_subjects_have_no_lines() -> None:
    (one,) = evaluate(ROWS, "first")
    plain = dataclasses.replace(one, table=one.table.drop(columns="subject"))
    assert accuracy_by_subject([plain]) == ()


def test_missing_accuracy_is_explained() -> None:
    first, second = evaluate(ROWS.assign(second=None), "first", "second")
    second = dataclasses.replace(second, metrics=dataclasses.replace(GENAI, accuracy=None))
    (sentence,) = subjects.describe_missing_accuracy([first, second])
    assert sentence.startswith("genai reports no log-probabilities")
    assert sentence.endswith("its accuracy is not measured.")
    plain = dataclasses.replace(second, table=second.table.drop(columns="choice"))
    assert subjects.describe_missing_accuracy([first, plain]) == []


def test_table_and_macro_averages_are_logged(tracking: str) -> None:
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


def test_single_subject_equals_all_rows() -> None:
    """With one subject, its line has the values of the whole comparison."""
    rows = ROWS.assign(subject="all")
    reference, other = evaluate(rows, "first", "second")
    lines = accuracy_by_subject([reference, other])
    table = other.table.sort_index()
    estimated = estimate_uncertainty([ACCURACY], table, reference.table)
    for line in (lines[1], lines[3]):
        assert line.accuracy == pytest.approx(mean(ACCURACY.row_statistics(table).sum(axis=0)))
        assert line.p_value == pytest.approx(estimated.p_values["accuracy"])
    assert lines[1].interval == estimated.intervals["accuracy"]
