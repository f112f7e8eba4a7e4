"""A model that slmflow logged, taken from MLflow as the source of weights."""

from pathlib import Path

from slmflow.config.schema.model import Model, Source
from slmflow.pipeline.results import TransformersModel
from steps.fetch import fetch_checkpoint


def test_own_transformers_flavor_is_fetched_unchanged(
    pipeline: TransformersModel, weights: Path, tmp_path: Path
) -> None:
    fetch_checkpoint(Model("tuned", Source.mlflow, uri=pipeline.model_uri), tmp_path)
    for name in ("model.safetensors", "tokenizer.json", "tokenizer_config.json", "config.json"):
        assert (tmp_path / name).read_bytes() == (weights / name).read_bytes()
