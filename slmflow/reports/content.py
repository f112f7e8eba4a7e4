"""The content of a report, from which every format is rendered."""

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
from slmflow.reports.sources import ComparisonSources, find_provenance


@dataclass(frozen=True)
class ReportContent:
    """The comparison, its rows (None for a model evaluated alone, and of tasks) and its provenance.

    subjects: one line per subject and model, if the rows have subjects; warnings: a sentence for
    each model whose accuracy could not be measured; notes: sentences on what the metrics rest on.
    """

    comparison: Comparison
    rows: RowComparison | None
    provenance: ComparisonSources
    subjects: tuple[SubjectAccuracy, ...] = ()
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def build(
        cls,
        step: Step,
        comparison: Comparison,
        measurements: Measurements,
        models: Sequence[EvaluatedModel],
        notes: tuple[str, ...] = (),
    ) -> Self:
        """Return the content of the report on evaluate's comparison of these models."""
        compared = models[-1]
        has_rows = len(models) > 1 and not compared.table.empty  # tasks have none
        return cls(
            comparison=comparison,
            rows=RowComparison.from_table(compared.table) if has_rows else None,
            provenance=find_provenance(step, measurements, models),
            subjects=subjects.accuracy_by_subject(models),
            warnings=tuple(subjects.describe_missing_accuracy(models)),
            notes=notes,
        )
