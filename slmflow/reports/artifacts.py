"""Log the artifacts of the comparison, its metrics and the run's description."""

import mlflow
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.console import messages
from slmflow.metrics import subjects
from slmflow.reports import html_report, markdown_report, report_files, run_description
from slmflow.reports.content import ReportContent
from slmflow.reports.plots import panels


def log_report(content: ReportContent) -> None:
    """Log the report in all formats and the metrics to the active run, and describe the run."""
    comparison = content.comparison
    for warning in content.warnings:
        messages.warning(warning)
    comparison.log_metrics()
    subjects.log(content.subjects)
    mlflow.log_text(markdown_report.render(content), report_files.MARKDOWN)
    mlflow.log_text(html_report.render(content), report_files.HTML)
    mlflow.log_figure(panels.draw_page(comparison.models, comparison.title), report_files.PNG)
    mlflow.set_tag(MLFLOW_RUN_NOTE, run_description.render(content))
