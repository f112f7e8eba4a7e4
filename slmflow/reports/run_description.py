"""The description of a run in the MLflow UI, which shows only a few lines: the verdict first."""

from slmflow.metrics.comparison import Comparison
from slmflow.reports import markdown as md
from slmflow.reports import report_files, tables, verdict_sentence
from slmflow.reports.content import ReportContent
from slmflow.reports.sources import ComparisonSources

_MAX_LENGTH = 5000
_PADDING = "&emsp;"  # the UI leaves no space between the columns of a table
_LOGGED_MODEL = "models:/m-"


def render(content: ReportContent) -> str:
    """Return the verdict, the headlines and links, as Markdown of at most 5,000 characters."""
    comparison = content.comparison
    links = " · ".join(_links(comparison, content.provenance))
    parts = [
        f"**{md.text(verdict_sentence.render(comparison))}**",
        md.text(tables.headline_sentence(comparison)),
        content.rows.summary if content.rows else "",
        md.table(
            ["metric", *map(md.text, comparison.flavors)],
            (
                [f"{title}{_PADDING}", *(cell.text + _PADDING for cell in row.cells)]
                for title, row in tables.headlines(comparison).items()
            ),
        ),
        f"The report is the artifact `{report_files.HTML}`. {links}",
    ]
    return "\n\n".join(part for part in parts if part)[:_MAX_LENGTH]


def _links(comparison: Comparison, provenance: ComparisonSources) -> list[str]:
    """Return links that work in the UI: to runs and to logged models."""
    experiment = f"#/experiments/{provenance.experiment_id}"
    runs = {content: f"{experiment}/runs/{run_id}" for content, run_id in provenance.runs.items()}
    models = {
        f"model {model.flavor}": (
            f"{experiment}/models/m-{model.model_uri.removeprefix(_LOGGED_MODEL)}"
        )
        for model in comparison.models
        if model.model_uri.startswith(_LOGGED_MODEL)
    }
    return [f"[{md.text(name)}]({address})" for name, address in (runs | models).items()]
