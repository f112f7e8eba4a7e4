"""Log the comparison: `comparison.json`, `.md`, `.html` and `.png`, metrics, a description."""

from collections.abc import Mapping

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.console import messages
from slmflow.metrics import subjects
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.row_comparison import Regression, RowComparison
from slmflow.reports import html_report, parity, run_description
from slmflow.reports import markdown as md
from slmflow.reports.artifacts import PAGE
from slmflow.reports.content import ReportContent
from slmflow.reports.plots import panels
from slmflow.reports.provenance import Provenance

_NOTES = """\
`-`: not measured. In brackets: 95 % confidence interval, by bootstrap over the rows; of a share
that is all or nothing, by the rule of three."""
_NOTES_OF_TWO = """\
`p`: how likely chance alone parts the flavors this
far, by a paired test over the rows."""
_REGRESSIONS = 5


def log(findings: ReportContent) -> None:
    """Log `REPORT` and the figures, and describe the active run by what was found."""
    comparison = findings.comparison
    for sentence in findings.unscored:
        messages.warn(sentence)
    comparison.log_metrics()
    subjects.log(findings.subjects)
    mlflow.log_text(markdown(findings), "comparison.md")
    mlflow.log_text(html_report.html(findings), PAGE)
    mlflow.log_figure(panels.draw(comparison.figures, comparison.title), "comparison.png")
    mlflow.set_tag(MLFLOW_RUN_NOTE, run_description.markdown(findings))


def markdown(findings: ReportContent) -> str:
    """Return the report as Markdown, the table of all figures first."""
    comparison, origin = findings.comparison, findings.origin
    models = [f"- {md.text(row.flavor)}: {md.code(row.model_uri)}" for row in comparison.figures]
    parts = [
        f"# {md.text(comparison.title)}",
        md.text(comparison.verdict),
        _figures(comparison),
        _NOTES if comparison.reference is None else f"{_NOTES} {_NOTES_OF_TWO}",
        *map(md.text, findings.unscored),
        *(subjects.markdown(findings.subjects) if findings.subjects else ()),
        "\n".join(models),
        *_parity(origin),
        *(_rows(findings.rows, comparison) if findings.rows else ()),
        *_told("Asked", origin.asked),
        *_told("Measured on", origin.machine),
    ]
    return "\n\n".join(parts) + "\n"


def _figures(comparison: Comparison) -> str:
    tested = comparison.reference is not None
    header = ["figure", *map(md.text, comparison.flavors), *(["p"] if tested else ()), "what it is"]
    lines = [
        [
            f"`{name}`",
            *cells,
            *([comparison.compared.p_written(name)] if tested else ()),
            md.text(comparison.compared.meaning(name)),
        ]
        for name, *cells in comparison.table()
    ]
    return md.table(header, lines, words=("figure", "what it is"))


def _parity(origin: Provenance) -> list[str]:
    told = parity.parity_metrics(origin.parity)
    lines = [f"- `{each.name}` {each.written}: {each.meaning}" for each in told]
    return ["## Parity of the conversion", "\n".join(lines)] if lines else []


def _rows(rows: RowComparison, comparison: Comparison) -> list[str]:
    worst = [_regression(row, comparison) for row in rows.regressions[:_REGRESSIONS]]
    return ["## Row by row", rows.counts, *(["\n".join(worst)] if worst else [])]


def _regression(row: Regression, comparison: Comparison) -> str:
    told = {
        "expected": row.expected,
        comparison.flavors[0]: row.reference,
        comparison.flavors[-1]: row.answer,
    }
    lines = [f"  - {md.text(name)}: {md.text(value)}" for name, value in told.items()]
    return "\n".join([f"- question: {md.text(row.question)}", *lines])


def _told(what: str, told: Mapping[str, str]) -> list[str]:
    named = ", ".join(f"{md.text(name)} {md.text(value)}" for name, value in told.items())
    return [f"{what}: {named}."] if told else []
