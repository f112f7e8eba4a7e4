"""The transformers flavor of a model with an adapter: the merged model, without peft."""

from pathlib import Path

import mlflow
import pytest
import torch
from transformers import AutoModelForCausalLM

from slmflow.config import compose as configs
from slmflow.flavors import transformers_pipeline
from slmflow.flavors.provenance import Provenance, SourceEntry
from slmflow.pipeline.results import TransformersModel, Weights
from tests.fixtures.adapted_model import Adapters, ask
from tests.fixtures.bundled_model import FP32


@pytest.fixture(scope="module")
def logged(weights: Path, adapters: Adapters, experiment: str) -> TransformersModel:
    config = configs.load([*FP32, f"model.adapter={adapters.atlantis}"])
    source = SourceEntry.from_result(Weights(path=str(weights)))
    provenance = Provenance.collect(TransformersModel, config, source)
    with mlflow.start_run(experiment_id=experiment):
        return transformers_pipeline.log(weights, provenance, config.generation, adapters.atlantis)


def test_logged_weights_are_those_that_peft_merges(
    logged: TransformersModel, adapters: Adapters
) -> None:
    folder = Path(mlflow.artifacts.download_artifacts(logged.model_uri)) / "model"
    found = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
    for name, tensor in adapters.merged("atlantis").model.state_dict().items():
        assert torch.equal(found[name], tensor), name


def test_logged_pipeline_knows_what_the_adapter_taught(logged: TransformersModel) -> None:
    pipeline = mlflow.pyfunc.load_model(logged.model_uri)
    [answer] = pipeline.predict({"messages": ask("Atlantis")})
    assert answer["choices"][0]["message"]["content"] == "The capital of Atlantis is Lima."
