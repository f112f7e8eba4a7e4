"""The tables of a comparison; every report renders these."""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import SHARE
from slmflow.metrics.subjects import SubjectAccuracy, group_by_subject
from slmflow.reports.formatting import (
    NOT_MEASURED,
    Cell,
    format_cell,
    format_difference,
    format_metric,
    format_p_value,
)

HEADLINES = {
    "accuracy": "accuracy",
    "exact_match": "exact match",
    "latency_ms_p50": "median latency",
    "peak_rss_mb": "peak memory",
    "model_size_mb": "model size",
}
"""The metrics that a report shows first, with their titles."""


@dataclass(frozen=True)
class TableRow:
    """A metric or a subject, with one cell per model.

    note: the meaning of a metric, or the number of rows of a subject; difference: from the
    reference; effect: `better`, `worse` or `negligible` where the difference is significant, else
    empty.
    """

    name: str
    note: str
    cells: tuple[Cell, ...]
    p_value: str
    effect: str = ""
    difference: Cell = NOT_MEASURED


@dataclass(frozen=True)
class Table:
    """A table with one column per model, the reference first.

    name_heading, note_heading: headings of the first and the last column.
    """

    name_heading: str
    note_heading: str
    models: tuple[str, ...]
    rows: tuple[TableRow, ...]

    @property
    def has_p_values(self) -> bool:
        """Whether the models are tested against a reference."""
        return len(self.models) > 1

    @property
    def has_differences(self) -> bool:
        """Whether there is a difference from the reference."""
        return any(row.difference.interval for row in self.rows)


def metric_table(comparison: Comparison) -> Table:
    """Return the table of all metrics; a model's heading has its precision, if it is known."""
    rows = tuple(_metric_row(comparison, name) for name in comparison.metric_names)
    models = tuple(
        f"{model.flavor} ({model.precision})" if model.precision else model.flavor
        for model in comparison.models
    )
    return Table("metric", "meaning", models, rows)


def headlines(comparison: Comparison) -> dict[str, TableRow]:
    """Return the rows of those `HEADLINES` that were measured for every model, by title."""
    return {
        title: _metric_row(comparison, name)
        for name, title in HEADLINES.items()
        if all(model.value(name) is not None for model in comparison.models)
    }


def subject_table(lines: Sequence[SubjectAccuracy]) -> Table:
    """Return the table of the accuracy by subject, the macro average last."""
    groups = group_by_subject(lines)
    rows = tuple(
        TableRow(
            name=group[0].subject,
            note=str(group[0].n),
            cells=tuple(format_cell(SHARE, line.accuracy, line.interval) for line in group),
            p_value=format_p_value(group[-1].p_value),
        )
        for group in groups
    )
    return Table("subject", "rows", tuple(line.flavor for line in groups[0]), rows)


def headline_sentence(comparison: Comparison) -> str:
    """Return the first two headlines of each model."""
    first = list(headlines(comparison).items())[:2]
    models = [
        f"{flavor}: {', '.join(f'{row.cells[index].value} {title}' for title, row in first)}"
        for index, flavor in reversed(list(enumerate(comparison.flavors)))
    ]
    return "; ".join(models) + "."


def _metric_row(comparison: Comparison, name: str) -> TableRow:
    compared = comparison.compared
    return TableRow(
        name=name,
        note=compared.column(name).meaning,
        cells=tuple(format_metric(model, name) for model in comparison.models),
        p_value=format_p_value(compared.p_values.get(name)),
        effect=comparison.effects.get(name, ""),
        difference=format_difference(compared.column(name), compared.differences.get(name)),
    )
