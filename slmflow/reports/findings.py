"""All that a comparison has found: what the reports tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from slmflow.measurement.result import Measurements
from slmflow.metrics import subjects
from slmflow.metrics.compare import Compared
from slmflow.metrics.regressions import RowByRow
from slmflow.metrics.result import Evaluation
from slmflow.metrics.subjects import SubjectFigures
from slmflow.pipeline.step import Step
from slmflow.reports import origin
from slmflow.reports.origin import Origin


@dataclass(frozen=True)
class Findings:
    """The figures, the rows where two models differ (None of one alone), and where it is from.

    subjects: a line per subject and model, where the rows have subjects; unscored: a sentence for
    each model whose choices are not known.
    """

    evaluation: Evaluation
    rows: RowByRow | None
    origin: Origin
    subjects: tuple[SubjectFigures, ...] = ()
    unscored: tuple[str, ...] = ()

    @classmethod
    def of(cls, step: Step, measurements: Measurements, compared: Sequence[Compared]) -> Self:
        """Return what evaluate's comparison of these models has found."""
        figures = tuple(each.figures for each in compared)
        return cls(
            evaluation=Evaluation(step.run.info.run_id, step.config.model.name, figures),
            rows=RowByRow.of(compared[-1].table) if len(compared) > 1 else None,
            origin=origin.trace(step, measurements, compared),
            subjects=subjects.by_subject(compared),
            unscored=tuple(subjects.unscored(compared)),
        )
