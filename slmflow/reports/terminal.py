"""The comparison on the terminal."""

from pathlib import Path

import mlflow
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from slmflow.console import messages
from slmflow.metrics.comparison import Comparison
from slmflow.reports.artifacts import PAGE


def show(comparison: Comparison) -> None:
    """Print the comparison as a table, and where the report is."""
    messages.table(
        comparison.title, ["", *comparison.flavors], comparison.table(), comparison.differences
    )
    messages.say(f"The report is {_page(comparison.run_id)}")


def _page(run_id: str) -> str:
    """Return the path of the HTML report if artifacts are local files, else its name and run."""
    artifacts = get_artifact_repository(mlflow.get_run(run_id).info.artifact_uri)
    if isinstance(artifacts, LocalArtifactRepository):
        return str(Path(artifacts.artifact_dir, PAGE))
    return f"{PAGE} of run {run_id}"
