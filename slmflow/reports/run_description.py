"""The description of a run in the MLflow UI, which folds after a few lines: the verdict first."""

from slmflow.metrics.result import PAGE, Evaluation
from slmflow.reports import markdown as md
from slmflow.reports.findings import Findings
from slmflow.reports.origin import Origin

_LENGTH = 5000
_PAD = "&emsp;"  # the UI sets the columns of a table edge to edge
_LOGGED_MODEL = "models:/m-"


def markdown(findings: Findings) -> str:
    """Return the verdict, the headlines and links, as Markdown of at most 5,000 characters."""
    evaluation = findings.evaluation
    parts = [
        f"**{md.text(evaluation.verdict)}**",
        findings.rows.counts if findings.rows else "",
        md.table(
            ["figure", *map(md.text, evaluation.flavors)],
            (
                [f"{called}{_PAD}", *(row.written(name) + _PAD for row in evaluation.figures)]
                for name, called in evaluation.headlines.items()
            ),
        ),
        f"The report is the artifact `{PAGE}`. " + " · ".join(_links(evaluation, findings.origin)),
    ]
    return "\n\n".join(part for part in parts if part)[:_LENGTH]


def _links(evaluation: Evaluation, origin: Origin) -> list[str]:
    """Return links that work in the UI: to runs, and to models that were logged."""
    here = f"#/experiments/{origin.experiment_id}"
    runs = {holds: f"{here}/runs/{run_id}" for holds, run_id in origin.runs.items()}
    models = {
        f"model {row.flavor}": f"{here}/models/m-{row.model_uri.removeprefix(_LOGGED_MODEL)}"
        for row in evaluation.figures
        if row.model_uri.startswith(_LOGGED_MODEL)
    }
    return [f"[{md.text(called)}]({address})" for called, address in (runs | models).items()]
