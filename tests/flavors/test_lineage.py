"""Models made from a model in MLflow say which one."""

import json
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from slmflow.config import compose as configs
from slmflow.console.library_output import silence
from slmflow.flavors import lineage
from slmflow.flavors.provenance import PROVENANCE_FILE
from slmflow.pipeline import model_uris
from slmflow.pipeline.results import TransformersModel
from steps.log_genai import log_genai
from tests.fixtures.bundled_model import FP32, StepInputs


def test_genai_model_leads_to_the_registered_version(
    pipeline: TransformersModel, weights: Path, onnx: Path, experiment: str
) -> None:
    """By its run's inputs, its tags and its provenance."""
    with silence():
        version = mlflow.register_model(pipeline.model_uri, "tuned").version
    uri = f"models:/tuned/{version}"
    config = configs.load([*FP32, "model=mlflow", f"model.uri={uri}"])

    with mlflow.start_run(experiment_id=experiment) as active:
        made = log_genai(StepInputs(config, weights, onnx))

    run = MlflowClient().get_run(active.info.run_id)
    assert [each.model_id for each in run.inputs.model_inputs] == [pipeline.model_id]
    tags = mlflow.get_logged_model(made.model_id).tags
    assert tags[lineage.SOURCE_URI_TAG] == uri
    assert tags[lineage.SOURCE_ID_TAG] == pipeline.model_id
    files = model_uris.artifact_repository(made.model_uri)
    recorded = json.loads(Path(files.download_artifacts(PROVENANCE_FILE)).read_text())["model"]
    source = mlflow.get_logged_model(pipeline.model_id)
    assert recorded["source"] == "mlflow"
    assert (recorded["uri"], recorded["model_id"]) == (uri, pipeline.model_id)
    assert recorded["run_id"] == source.source_run_id
