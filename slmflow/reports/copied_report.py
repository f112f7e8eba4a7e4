"""Copy the report of a run of evaluate, without what draws one."""

import tempfile

import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.metrics.comparison import Comparison
from slmflow.pipeline import run_links
from slmflow.reports import report_files


def copy(comparison: Comparison) -> None:
    """Copy metrics, report, links and description of evaluate's run to the active run."""
    comparison.log_metrics()
    run_links.copy_datasets(comparison.run_id)
    run_links.log_models_out(run_links.model_id(each.model_uri) for each in comparison.models)
    with tempfile.TemporaryDirectory() as folder:
        for name in (report_files.MARKDOWN, report_files.HTML, report_files.PNG):
            uri = f"runs:/{comparison.run_id}/{name}"
            mlflow.log_artifact(mlflow.artifacts.download_artifacts(uri, dst_path=folder))
    tags = MlflowClient().get_run(comparison.run_id).data.tags
    mlflow.set_tag(MLFLOW_RUN_NOTE, tags[MLFLOW_RUN_NOTE])
