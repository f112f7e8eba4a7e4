"""The comparison on the terminal."""

import dataclasses
from pathlib import Path

import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.console import messages
from slmflow.metrics.comparison import Comparison
from slmflow.reports import report_files, tables, verdict_sentence
from slmflow.reports.formatting import Cell


def show(comparison: Comparison) -> None:
    """Print the verdict, the comparison as a table, and where the report is.

    Beside differences there is no room for the intervals of each model.
    """
    messages.info(verdict_sentence.render(comparison))
    table = tables.metric_table(comparison)
    if table.has_differences:
        models = (name.replace(" (", "\n(") for name in table.models)
        heading = ["", *models, "difference\n(points, %)"]
        rows = [
            [row.name, *(cell.value for cell in row.cells), _without_unit(row.difference)]
            for row in table.rows
        ]
    else:
        heading = ["", *table.models]
        rows = [[row.name, *(cell.text for cell in row.cells)] for row in table.rows]
    messages.table(comparison.title, heading, rows)
    messages.info(f"The report is {_report_location(comparison.run_id)}")


def _without_unit(difference: Cell) -> str:
    return dataclasses.replace(difference, value=difference.value.partition(" ")[0]).text


def _report_location(run_id: str) -> str:
    """Return the path of the HTML report if artifacts are local files, else its name and run."""
    artifacts = get_artifact_repository(mlflow.get_run(run_id).info.artifact_uri)
    if isinstance(artifacts, LocalArtifactRepository):
        return str(Path(artifacts.artifact_dir, report_files.HTML))
    return f"{report_files.HTML} of run {run_id}"
