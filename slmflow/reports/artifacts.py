"""Log the artifacts of the comparison, its metrics and the run's description."""

import tempfile

import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.console import messages
from slmflow.metrics import subjects
from slmflow.metrics.comparison import Comparison
from slmflow.reports import html_report, markdown_report, run_description
from slmflow.reports.content import ReportContent
from slmflow.reports.plots import panels

_PNG_FILE = "comparison.png"


def log_report(content: ReportContent) -> None:
    """Log the report in all formats and the metrics to the active run, and describe the run."""
    comparison = content.comparison
    for warning in content.warnings:
        messages.warning(warning)
    comparison.log_metrics()
    subjects.log(content.subjects)
    mlflow.log_text(markdown_report.render(content), markdown_report.FILE)
    mlflow.log_text(html_report.render(content), html_report.FILE)
    mlflow.log_figure(panels.draw_page(comparison.models, comparison.title), _PNG_FILE)
    mlflow.set_tag(MLFLOW_RUN_NOTE, run_description.render(content))


def copy_report(comparison: Comparison) -> None:
    """Copy the metrics, the report and the description of evaluate's run to the active run."""
    comparison.log_metrics()
    with tempfile.TemporaryDirectory() as folder:
        for name in (markdown_report.FILE, html_report.FILE, _PNG_FILE):
            uri = f"runs:/{comparison.run_id}/{name}"
            mlflow.log_artifact(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
    tags = MlflowClient().get_run(comparison.run_id).data.tags
    mlflow.set_tag(MLFLOW_RUN_NOTE, tags[MLFLOW_RUN_NOTE])
