"""The tables of a comparison; every report renders these."""

from collections.abc import Sequence
from dataclasses import dataclass

from slmflow.metrics.comparison import SIGNIFICANCE_LEVEL, Comparison
from slmflow.metrics.model_metrics import SHARE
from slmflow.metrics.subjects import SubjectAccuracy, group_by_subject
from slmflow.reports.formatting import Cell, format_cell, format_metric, format_p_value

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

    note: the meaning of a metric, or the number of rows of a subject; effect: `better` or `worse`
    where the difference is significant, else empty.
    """

    name: str
    note: str
    cells: tuple[Cell, ...]
    p_value: str
    effect: str = ""


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


def metric_table(comparison: Comparison) -> Table:
    """Return the table of all metrics."""
    rows = tuple(_metric_row(comparison, name) for name in comparison.metric_names)
    return Table("metric", "meaning", tuple(comparison.flavors), rows)


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


def verdict(comparison: Comparison) -> str:
    """Return the first two headlines of each model, and the significant differences."""
    first = list(headlines(comparison).items())[:2]
    models = [
        f"{flavor}: {', '.join(f'{row.cells[index].value} {title}' for title, row in first)}"
        for index, flavor in reversed(list(enumerate(comparison.flavors)))
    ]
    return " ".join(part for part in ("; ".join(models) + ".", differences(comparison)) if part)


def differences(comparison: Comparison) -> str:
    """Return a sentence about the significant differences; empty if nothing was tested."""
    reference, compared = comparison.reference, comparison.compared
    if reference is None or not compared.p_values:
        return ""
    effects = comparison.effects
    parts = [
        f"{effect} than {reference.flavor} in "
        + ", ".join(
            f"{name} (p {format_p_value(compared.p_values[name])})"
            for name in effects
            if effects[name] == effect
        )
        for effect in ("worse", "better")
        if effect in effects.values()
    ]
    no_difference = f"shows no significant difference from {reference.flavor}"
    result = f"is {' and '.join(parts)}" if parts else no_difference
    return (
        f"By paired tests of each metric (significant: p < {SIGNIFICANCE_LEVEL}), "
        f"{compared.flavor} {result}."
    )


def _metric_row(comparison: Comparison, name: str) -> TableRow:
    compared = comparison.compared
    return TableRow(
        name=name,
        note=compared.column(name).meaning,
        cells=tuple(format_metric(model, name) for model in comparison.models),
        p_value=format_p_value(compared.p_values.get(name)),
        effect=comparison.effects.get(name, ""),
    )
