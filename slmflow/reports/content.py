"""All that a comparison has found: what the reports tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from slmflow.metrics import subjects
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.metrics.row_comparison import RowComparison
from slmflow.metrics.subjects import SubjectAccuracy
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step
from slmflow.reports import provenance as origin
from slmflow.reports.provenance import Provenance


@dataclass(frozen=True)
class ReportContent:
    """The figures, the rows where two models differ (None of one alone), and where it is from.

    subjects: a line per subject and model, where the rows have subjects; unscored: a sentence for
    each model whose choices are not known.
    """

    comparison: Comparison
    rows: RowComparison | None
    origin: Provenance
    subjects: tuple[SubjectAccuracy, ...] = ()
    unscored: tuple[str, ...] = ()

    @classmethod
    def of(cls, step: Step, measurements: Measurements, compared: Sequence[EvaluatedModel]) -> Self:
        """Return what evaluate's comparison of these models has found."""
        figures = tuple(each.figures for each in compared)
        return cls(
            comparison=Comparison(step.run.info.run_id, step.config.model.name, figures),
            rows=RowComparison.of(compared[-1].table) if len(compared) > 1 else None,
            origin=origin.find_provenance(step, measurements, compared),
            subjects=subjects.accuracy_by_subject(compared),
            unscored=tuple(subjects.describe_missing_accuracy(compared)),
        )
