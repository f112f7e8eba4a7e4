"""Accuracy by subject, as MMLU reports it: of each subject, and the mean over the subjects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlflow
import pandas as pd

from slmflow.metrics import uncertainty
from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.metrics.scoring import ACCURACY, estimate_uncertainty
from slmflow.metrics.uncertainty import Array

MACRO = "macro average"
"""The mean over the subjects: each has the same weight, however many rows it has."""


@dataclass(frozen=True)
class SubjectAccuracy:
    """A model's accuracy on the `n` rows of one subject, or its macro average.

    interval: of 95 % confidence; p_value: of the paired test against the reference. None marks a
    value that was not measured.
    """

    subject: str
    flavor: str
    n: int
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    p_value: float | None = None

    def columns(self) -> dict[str, float | None]:
        """Return the values as columns of `subjects.json`."""
        low, high = self.interval or (None, None)
        return {
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "accuracy_p": self.p_value,
        }


def accuracy_by_subject(models: Sequence[EvaluatedModel]) -> tuple[SubjectAccuracy, ...]:
    """Return one line per subject and model, in this order, then each model's macro average.

    Empty if the rows have no subjects, or no model can score texts.
    """
    tables = {model.metrics.flavor: model.table.sort_index() for model in models}
    reference = next(iter(tables.values()))
    if "subject" not in reference or not any(map(ACCURACY.is_computable, tables.values())):
        return ()
    subjects = reference.groupby("subject").indices.items()
    return (
        *(
            _subject(
                str(subject),
                flavor,
                table.iloc[positions],
                None if table is reference else reference.iloc[positions],
            )
            for subject, positions in subjects
            for flavor, table in tables.items()
        ),
        *(
            _macro_average(flavor, table, None if table is reference else reference)
            for flavor, table in tables.items()
        ),
    )


def describe_missing_accuracy(models: Iterable[EvaluatedModel]) -> list[str]:
    """Return a sentence for each model whose choices are unknown."""
    return [
        f"{model.metrics.flavor} reports no log-probabilities of texts (a Python model does so in "
        "a method score): its accuracy is not measured."
        for model in models
        if "choice" in model.table and model.metrics.accuracy is None
    ]


def log(lines: Sequence[SubjectAccuracy]) -> None:
    """Log `subjects.json`, and metrics such as `genai.accuracy_macro`, to the active run."""
    if not lines:
        return
    rows = [
        {"subject": line.subject, "flavor": line.flavor, "n": line.n} | line.columns()
        for line in lines
    ]
    mlflow.log_table(pd.DataFrame(rows), "subjects.json")
    for line in group_by_subject(lines)[-1]:
        for name, value in line.columns().items():
            if value is not None:
                macro = name.replace("accuracy", "accuracy_macro")
                mlflow.log_metric(f"{line.flavor}.{macro}", value)


def group_by_subject(lines: Sequence[SubjectAccuracy]) -> list[Sequence[SubjectAccuracy]]:
    """Return the lines of each subject, one per model."""
    models = len({line.flavor for line in lines})
    return [lines[first : first + models] for first in range(0, len(lines), models)]


def _subject(
    subject: str, flavor: str, table: pd.DataFrame, reference: pd.DataFrame | None
) -> SubjectAccuracy:
    if not ACCURACY.is_computable(table):
        return SubjectAccuracy(subject, flavor, len(table))
    estimated = estimate_uncertainty([ACCURACY], table, reference)
    return SubjectAccuracy(
        subject,
        flavor,
        len(table),
        accuracy=float(uncertainty.mean(ACCURACY.row_statistics(table).sum(axis=0))),
        interval=estimated.intervals.get(ACCURACY.name),
        p_value=estimated.p_values.get(ACCURACY.name),
    )


def _macro_average(
    flavor: str, table: pd.DataFrame, reference: pd.DataFrame | None
) -> SubjectAccuracy:
    if not ACCURACY.is_computable(table):
        return SubjectAccuracy(MACRO, flavor, len(table))
    rows, p_value = _weighted_statistics(table), None
    if reference is not None and ACCURACY.is_computable(reference):
        p_value = uncertainty.paired_p_value(
            rows, _weighted_statistics(reference), uncertainty.mean
        )
    correct = (table["choice"] == table["answer"]).groupby(table["subject"])
    return SubjectAccuracy(
        MACRO,
        flavor,
        len(table),
        accuracy=float(uncertainty.mean(rows.sum(axis=0))),
        interval=uncertainty.macro_average_interval(
            correct.sum().to_numpy(), correct.size().to_numpy()
        ),
        p_value=p_value,
    )


def _weighted_statistics(table: pd.DataFrame) -> Array:
    """Return each row's statistics divided by the size of its subject; their mean is the macro."""
    sizes = table.groupby("subject")["subject"].transform("size").to_numpy()
    weighted: Array = ACCURACY.row_statistics(table) / sizes[:, None]
    return weighted
