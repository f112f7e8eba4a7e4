"""The precision that a measured model computes with."""

from mlflow.models import Model

from slmflow.config.schema.config import Config
from slmflow.config.schema.target import Target
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.pipeline.results import GenaiModel

_TORCH = {"torch.float32": "fp32", "torch.float16": "fp16", "torch.bfloat16": "bf16"}


def of_model(model: MeasuredModel, config: Config) -> str | None:
    """Return the type of a model's weights, such as `fp32` or `int4`; None if it is not known.

    That of a transformers pipeline is in its MLflow metadata, that of a converted model in the
    target.
    """
    if config.evaluation.model_uri is None and model.flavor == GenaiModel.flavor:
        return of_target(config.target)
    pipeline = Model.load(model.model_uri).flavors.get("transformers", {})
    return _TORCH.get(str(pipeline.get("torch_dtype")))


def of_target(target: Target) -> str:
    """Return the type of the weights that a target stores."""
    if target.quantization is None:
        return target.precision.value
    return f"int{target.quantization.bits}"
