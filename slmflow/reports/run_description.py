"""The description of a run in the MLflow UI, which folds after a few lines: the verdict first."""

from slmflow.metrics.comparison import Comparison
from slmflow.reports import markdown as md
from slmflow.reports.artifacts import PAGE
from slmflow.reports.content import ReportContent
from slmflow.reports.provenance import Provenance

_LENGTH = 5000
_PAD = "&emsp;"  # the UI sets the columns of a table edge to edge
_LOGGED_MODEL = "models:/m-"


def markdown(findings: ReportContent) -> str:
    """Return the verdict, the headlines and links, as Markdown of at most 5,000 characters."""
    comparison = findings.comparison
    parts = [
        f"**{md.text(comparison.verdict)}**",
        findings.rows.counts if findings.rows else "",
        md.table(
            ["figure", *map(md.text, comparison.flavors)],
            (
                [f"{called}{_PAD}", *(row.written(name) + _PAD for row in comparison.figures)]
                for name, called in comparison.headlines.items()
            ),
        ),
        f"The report is the artifact `{PAGE}`. " + " · ".join(_links(comparison, findings.origin)),
    ]
    return "\n\n".join(part for part in parts if part)[:_LENGTH]


def _links(comparison: Comparison, origin: Provenance) -> list[str]:
    """Return links that work in the UI: to runs, and to models that were logged."""
    here = f"#/experiments/{origin.experiment_id}"
    runs = {holds: f"{here}/runs/{run_id}" for holds, run_id in origin.runs.items()}
    models = {
        f"model {row.flavor}": f"{here}/models/m-{row.model_uri.removeprefix(_LOGGED_MODEL)}"
        for row in comparison.figures
        if row.model_uri.startswith(_LOGGED_MODEL)
    }
    return [f"[{md.text(called)}]({address})" for called, address in (runs | models).items()]
