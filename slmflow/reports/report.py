"""Log the comparison: `comparison.json`, `.md`, `.html` and `.png`, metrics, a description."""

from collections.abc import Mapping

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.console import messages
from slmflow.metrics import subjects
from slmflow.metrics.regressions import Regression, RowByRow
from slmflow.metrics.result import PAGE, Evaluation
from slmflow.reports import html_page, parity_figures, run_description
from slmflow.reports import markdown as md
from slmflow.reports.findings import Findings
from slmflow.reports.origin import Origin
from slmflow.reports.plots import panels

_NOTES = """\
`-`: not measured. In brackets: 95 % confidence interval, by bootstrap over the rows; of a share
that is all or nothing, by the rule of three."""
_NOTES_OF_TWO = """\
`p`: how likely chance alone parts the flavors this
far, by a paired test over the rows."""
_REGRESSIONS = 5


def log(findings: Findings) -> None:
    """Log `REPORT` and the figures, and describe the active run by what was found."""
    evaluation = findings.evaluation
    for sentence in findings.unscored:
        messages.warn(sentence)
    evaluation.log_figures()
    subjects.log(findings.subjects)
    mlflow.log_text(markdown(findings), "comparison.md")
    mlflow.log_text(html_page.html(findings), PAGE)
    mlflow.log_figure(panels.draw(evaluation.figures, evaluation.title), "comparison.png")
    mlflow.set_tag(MLFLOW_RUN_NOTE, run_description.markdown(findings))


def markdown(findings: Findings) -> str:
    """Return the report as Markdown, the table of all figures first."""
    evaluation, origin = findings.evaluation, findings.origin
    models = [f"- {md.text(row.flavor)}: {md.code(row.model_uri)}" for row in evaluation.figures]
    parts = [
        f"# {md.text(evaluation.title)}",
        md.text(evaluation.verdict),
        _figures(evaluation),
        _NOTES if evaluation.reference is None else f"{_NOTES} {_NOTES_OF_TWO}",
        *map(md.text, findings.unscored),
        *(subjects.markdown(findings.subjects) if findings.subjects else ()),
        "\n".join(models),
        *_parity(origin),
        *(_rows(findings.rows, evaluation) if findings.rows else ()),
        *_told("Asked", origin.asked),
        *_told("Measured on", origin.machine),
    ]
    return "\n\n".join(parts) + "\n"


def _figures(evaluation: Evaluation) -> str:
    tested = evaluation.reference is not None
    header = ["figure", *map(md.text, evaluation.flavors), *(["p"] if tested else ()), "what it is"]
    lines = [
        [
            f"`{name}`",
            *cells,
            *([evaluation.compared.p_written(name)] if tested else ()),
            md.text(evaluation.compared.meaning(name)),
        ]
        for name, *cells in evaluation.table()
    ]
    return md.table(header, lines, words=("figure", "what it is"))


def _parity(origin: Origin) -> list[str]:
    told = parity_figures.tell(origin.parity)
    lines = [f"- `{each.name}` {each.written}: {each.meaning}" for each in told]
    return ["## Parity of the conversion", "\n".join(lines)] if lines else []


def _rows(rows: RowByRow, evaluation: Evaluation) -> list[str]:
    worst = [_regression(row, evaluation) for row in rows.regressions[:_REGRESSIONS]]
    return ["## Row by row", rows.counts, *(["\n".join(worst)] if worst else [])]


def _regression(row: Regression, evaluation: Evaluation) -> str:
    told = {
        "expected": row.expected,
        evaluation.flavors[0]: row.reference,
        evaluation.flavors[-1]: row.answer,
    }
    lines = [f"  - {md.text(name)}: {md.text(value)}" for name, value in told.items()]
    return "\n".join([f"- question: {md.text(row.question)}", *lines])


def _told(what: str, told: Mapping[str, str]) -> list[str]:
    named = ", ".join(f"{md.text(name)} {md.text(value)}" for name, value in told.items())
    return [f"{what}: {named}."] if told else []
