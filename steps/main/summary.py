"""The comparison, on the run of the whole workflow too."""

import tempfile

import mlflow

from steps.evaluate.result import Evaluation


def log(evaluation: Evaluation) -> None:
    """Log to the active run what evaluate logged to its own, reused or not."""
    evaluation.log_figures()
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("comparison.md", "comparison.png"):
            file = f"runs:/{evaluation.run_id}/{name}"
            mlflow.log_artifact(mlflow.artifacts.download_artifacts(file, dst_path=scratch))
