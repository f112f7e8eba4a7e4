"""The report as Markdown."""

from collections.abc import Callable, Mapping

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.row_comparison import Regression, RowComparison
from slmflow.metrics.subjects import MACRO
from slmflow.reports import markdown as md
from slmflow.reports import parity, tables, verdict_sentence
from slmflow.reports.content import ReportContent
from slmflow.reports.tables import Table

_NOTES = """\
`-`: not measured. In parentheses: 95 % confidence interval, by bootstrap over the rows; for shares
of exactly 0 % or 100 %, by the rule of three."""
_COMPARISON_NOTE = """\
`difference`: from the reference over the same rows, of shares in points, of the perplexity in
percent. `p`: p-value of a paired test, which says whether there is a difference, not how large."""
_MAX_REGRESSIONS = 5


def render(content: ReportContent) -> str:
    """Return the report, with the verdict and the table of all metrics first."""
    comparison, provenance = content.comparison, content.provenance
    metrics = tables.metric_table(comparison)
    models = [
        f"- {md.text(model.flavor)}: {md.code(model.model_uri)}" for model in comparison.models
    ]
    parts = [
        f"# {md.text(comparison.title)}",
        md.text(verdict_sentence.render(comparison)),
        md.text(tables.headline_sentence(comparison)),
        _table(metrics, "`{}`".format),
        f"{_NOTES}\n{_COMPARISON_NOTE}" if metrics.has_p_values else _NOTES,
        *map(md.text, (*content.notes, *content.warnings)),
    ]
    if content.subjects:
        parts += [
            "## Accuracy by subject",
            _table(tables.subject_table(content.subjects), md.text),
            f"{MACRO}: the mean over the subjects.",
        ]
    parts.append("\n".join(models))
    if parity_metrics := parity.parity_metrics(provenance.parity):
        lines = [f"- `{each.name}` {each.value}: {each.meaning}" for each in parity_metrics]
        parts += ["## Parity of the conversion", "\n".join(lines)]
    if content.rows:
        parts += ["## Row by row", *_rows(content.rows, comparison)]
    parts += _facts("Settings", provenance.settings)
    parts += _facts("Machine", provenance.machine)
    return "\n\n".join(parts) + "\n"


def _table(table: Table, format_name: Callable[[str], str]) -> str:
    compared = ["difference"] if table.has_differences else []
    compared += ["p"] if table.has_p_values else []
    header = [table.name_heading, *map(md.text, table.models), *compared, table.note_heading]
    rows = [
        [
            format_name(row.name),
            *(cell.text for cell in row.cells),
            *([row.difference.text] if table.has_differences else ()),
            *([row.p_value] if table.has_p_values else ()),
            md.text(row.note),
        ]
        for row in table.rows
    ]
    return md.table(header, rows, left_aligned=(table.name_heading, table.note_heading))


def _rows(rows: RowComparison, comparison: Comparison) -> list[str]:
    worst = [_regression(row, comparison) for row in rows.regressions[:_MAX_REGRESSIONS]]
    return [rows.summary, *(["\n".join(worst)] if worst else [])]


def _regression(row: Regression, comparison: Comparison) -> str:
    texts = {
        "expected": row.expected,
        comparison.flavors[0]: row.reference,
        comparison.flavors[-1]: row.answer,
    }
    lines = [f"  - {md.text(name)}: {md.text(text)}" for name, text in texts.items()]
    return "\n".join([f"- question: {md.text(row.question)}", *lines])


def _facts(heading: str, facts: Mapping[str, str]) -> list[str]:
    listed = ", ".join(f"{md.text(name)} {md.text(value)}" for name, value in facts.items())
    return [f"{heading}: {listed}."] if facts else []
