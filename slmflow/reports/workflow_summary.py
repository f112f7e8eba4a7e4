"""The comparison, on the run of the whole workflow too."""

import tempfile

import mlflow
from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

from slmflow.metrics.comparison import Comparison
from slmflow.reports.artifacts import REPORT


def log(comparison: Comparison) -> None:
    """Log to the active run what evaluate logged to its own, reused or not."""
    comparison.log_metrics()
    with tempfile.TemporaryDirectory() as scratch:
        for name in REPORT:
            file = f"runs:/{comparison.run_id}/{name}"
            mlflow.log_artifact(mlflow.artifacts.download_artifacts(file, dst_path=scratch))
    described = MlflowClient().get_run(comparison.run_id).data.tags
    mlflow.set_tag(MLFLOW_RUN_NOTE, described[MLFLOW_RUN_NOTE])
