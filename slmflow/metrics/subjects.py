"""Accuracy by subject, as MMLU tells it: in each subject, and the mean over the subjects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import mlflow
import pandas as pd

from slmflow.metrics import uncertainty
from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.metrics.model_metrics import SHARE, in_words, p_in_words
from slmflow.metrics.scoring import ACCURACY, estimate_uncertainty
from slmflow.metrics.uncertainty import Array
from slmflow.reports import markdown as md

MACRO = "macro average"
"""What the mean over the subjects is called; each counts the same, however many rows it has."""


@dataclass(frozen=True)
class SubjectAccuracy:
    """A model's accuracy in the `n` rows of one subject, or the macro average over all.

    interval: of 95 % confidence; p: of the paired test against the reference flavor. None is what
    was not measured.
    """

    subject: str
    flavor: str
    n: int
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    p: float | None = None

    def columns(self) -> dict[str, float | None]:
        """Return the figures as columns of `subjects.json`."""
        low, high = self.interval or (None, None)
        return {
            "accuracy": self.accuracy,
            "accuracy_low": low,
            "accuracy_high": high,
            "accuracy_p": self.p,
        }

    def p_written(self) -> str:
        """Return the p-value as people read it; `-`: not tested."""
        return p_in_words(self.p)

    def written(self) -> str:
        """Return the accuracy as people read it; `-`: not measured."""
        return "-" if self.accuracy is None else in_words(SHARE, self.accuracy, self.interval)


def accuracy_by_subject(compared: Sequence[EvaluatedModel]) -> tuple[SubjectAccuracy, ...]:
    """Return a line per subject and model, in order, and the macro average of each model last.

    None where the rows have no subjects, or no model tells which choice it takes.
    """
    models = {each.figures.flavor: each.table.sort_index() for each in compared}
    reference = next(iter(models.values()))
    if "subject" not in reference or not any(map(ACCURACY.measured, models.values())):
        return ()
    subjects = reference.groupby("subject").indices.items()
    return (
        *(
            _of_subject(
                str(subject),
                flavor,
                table.iloc[places],
                None if table is reference else reference.iloc[places],
            )
            for subject, places in subjects
            for flavor, table in models.items()
        ),
        *(
            _macro(flavor, table, None if table is reference else reference)
            for flavor, table in models.items()
        ),
    )


def describe_missing_accuracy(compared: Iterable[EvaluatedModel]) -> list[str]:
    """Return a sentence for each model whose choices are not known."""
    return [
        f"{each.figures.flavor} tells no log-probabilities of texts (a Python model does by a "
        "method score): its accuracy is not measured."
        for each in compared
        if "choice" in each.table and each.figures.accuracy is None
    ]


def log(lines: Sequence[SubjectAccuracy]) -> None:
    """Log `subjects.json`, and metrics such as `genai.accuracy_macro`, to the active run."""
    if not lines:
        return
    named = [{"subject": line.subject, "flavor": line.flavor, "n": line.n} for line in lines]
    rows = [name | line.columns() for name, line in zip(named, lines, strict=True)]
    mlflow.log_table(pd.DataFrame(rows), "subjects.json")
    for line in lines[-len(_flavors(lines)) :]:
        for name, value in line.columns().items():
            if value is not None:
                macro = name.replace("accuracy", "accuracy_macro")
                mlflow.log_metric(f"{line.flavor}.{macro}", value)


def group_by_subject(lines: Sequence[SubjectAccuracy]) -> list[Sequence[SubjectAccuracy]]:
    """Return the lines of each subject, one of each model."""
    count = len(_flavors(lines))
    return [lines[at : at + count] for at in range(0, len(lines), count)]


def markdown(lines: Sequence[SubjectAccuracy]) -> list[str]:
    """Return the parts of the report: a table with a line per subject and a column per flavor."""
    flavors = _flavors(lines)
    table = md.table(
        ["subject", "n", *flavors, "p"],
        (
            [
                md.text(group[0].subject),
                str(group[0].n),
                *(line.written() for line in group),
                group[-1].p_written(),
            ]
            for group in group_by_subject(lines)
        ),
    )
    return ["## Accuracy by subject", table, f"{MACRO}: the mean over the subjects."]


def _flavors(lines: Iterable[SubjectAccuracy]) -> list[str]:
    return list(dict.fromkeys(line.flavor for line in lines))


def _of_subject(
    subject: str, flavor: str, table: pd.DataFrame, reference: pd.DataFrame | None
) -> SubjectAccuracy:
    if not ACCURACY.measured(table):
        return SubjectAccuracy(subject, flavor, len(table))
    sure = estimate_uncertainty([ACCURACY], table, reference)
    return SubjectAccuracy(
        subject,
        flavor,
        len(table),
        accuracy=float(uncertainty.mean(ACCURACY.rows(table).sum(axis=0))),
        interval=sure.intervals.get(ACCURACY.name),
        p=sure.p_values.get(ACCURACY.name),
    )


def _macro(flavor: str, table: pd.DataFrame, reference: pd.DataFrame | None) -> SubjectAccuracy:
    if not ACCURACY.measured(table):
        return SubjectAccuracy(MACRO, flavor, len(table))
    rows, p = _weighted(table), None
    if reference is not None and ACCURACY.measured(reference):
        p = uncertainty.paired_p_value(rows, _weighted(reference), uncertainty.mean)
    right = (table["choice"] == table["answer"]).groupby(table["subject"])
    return SubjectAccuracy(
        MACRO,
        flavor,
        len(table),
        accuracy=float(uncertainty.mean(rows.sum(axis=0))),
        interval=uncertainty.macro_average_interval(
            right.sum().to_numpy(), right.size().to_numpy()
        ),
        p=p,
    )


def _weighted(table: pd.DataFrame) -> Array:
    """Return each row's numbers by the size of its subject: their mean is the macro average."""
    sizes = table.groupby("subject")["subject"].transform("size").to_numpy()
    weighted: Array = ACCURACY.rows(table) / sizes[:, None]
    return weighted
