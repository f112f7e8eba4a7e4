"""Adapters that others logged to MLflow, with the base model or a reference to it."""

from pathlib import Path

import mlflow
import pytest
import torch
from mlflow.entities import Run
from transformers import AutoTokenizer

from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.console.library_output import silence
from slmflow.pipeline import runs
from slmflow.pipeline.results import Weights
from slmflow.pipeline.step_runner import run
from steps.fetch import fetch
from tests.fixtures import lora_adapters


def log_adapter(model: object) -> str:
    """Log a PeftModel in a run of its own; return its URI."""
    parts = {"model": model, "tokenizer": AutoTokenizer.from_pretrained(lora_adapters.BUNDLED)}
    with mlflow.start_run(), silence():
        info = mlflow.transformers.log_model(
            parts, name="tuned", task="text-generation", pip_requirements=["mlflow"]
        )
    return str(info.model_uri)


def fetched(*arguments: str) -> tuple[Weights, Run]:
    assert run("fetch", fetch, arguments) == 0
    last = mlflow.last_active_run()
    return runs.load_result(Weights, last.info.run_id), last


@pytest.mark.parametrize("shard_size", ["100MB", "2MB"])
def test_adapter_is_merged_into_its_base_model(
    tracking: str, shard_size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow saves this base model, under the names that peft gave to its weights."""
    monkeypatch.setenv("MLFLOW_HUGGINGFACE_MODEL_MAX_SHARD_SIZE", shard_size)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    tuned = lora_adapters.randomize(lora_adapters.untrained())
    uri = log_adapter(tuned)

    weights, _ = fetched("model=mlflow", f"model.uri={uri}")

    merged = tuned.merge_and_unload()
    assert weights.adapter_folder is not None
    adapter = LoraAdapter.read(weights.adapter_folder, "the adapter")
    tensors = CheckpointTensors.for_model(weights.folder, merged, adapter)
    for name, expected in merged.state_dict().items():
        torch.testing.assert_close(tensors[name], expected, rtol=0, atol=1e-6)


def test_model_with_an_adapter_takes_no_other(
    tracking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    uri = log_adapter(lora_adapters.untrained())
    lora_adapters.untrained().save_pretrained(tmp_path / "other")

    arguments = ["model=mlflow", f"model.uri={uri}", f"model.adapter={tmp_path}/other"]
    assert run("fetch", fetch, arguments) == 1

    error = mlflow.last_active_run().data.tags[runs.ERROR]
    assert error.startswith(f"model.uri='{uri}' has an adapter of its own, so it takes no other")
