"""Convert a checkpoint to an ONNX model for the target, and prove the graph equal to the original.

mlflow run . -e convert --env-manager uv -P model=tiny_phi3 -P target=cpu_int4
python -m steps.convert target=cpu_int8 exporter=builder
"""

from typing import Any

import mlflow

from slmflow.config.schema.adapters import AdapterMode
from slmflow.config.schema.model import Model
from slmflow.console import messages
from slmflow.conversion import hub_architecture
from slmflow.pipeline import entries
from slmflow.pipeline.keys import base_weights_key
from slmflow.pipeline.results import OnnxModel, Weights
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step

LATE_IMPORTS = (
    *("torch", "transformers.modeling_utils", "onnx_ir", "onnxruntime"),
    "slmflow.conversion.convert",
)
"""What this step imports when it runs; the process that forks it imports it before."""


def convert(step: Step) -> OnnxModel:
    """Ensure the checkpoint, get the ONNX model from the store or convert, and log the record."""
    hub_architecture.check(step.config, base_weights_key(step.config))
    # torch takes ten seconds to import: invalid arguments are reported before that.
    from slmflow.conversion import fidelity_sentence
    from slmflow.conversion.convert import convert_model
    from slmflow.conversion.record import RECORD_FILE, ConversionRecord

    weights = step.ensure(Weights)
    config = step.config
    key = step.key(OnnxModel)
    anew = step.is_made_anew(OnnxModel)
    with entries.unfinished("calibration", key, anew=anew) as scratch:
        folder = entries.get_or_build(
            "onnx",
            key,
            lambda building: convert_model(
                weights.folder,
                building,
                config.target,
                config.exporter.name,
                config.calibration,
                scratch,
                **_adapters(weights, config.model),
            ),
            about={"model": config.model.name, "target": config.target.name},
            anew=anew,
        )
    conversion = ConversionRecord.read(folder)
    mlflow.log_metrics(conversion.metrics())
    mlflow.log_artifact(str(folder / RECORD_FILE))
    messages.info(fidelity_sentence.describe(conversion, config.target, config.exporter))
    messages.info(f"the ONNX model is in {folder}")
    return OnnxModel(path=str(folder), mean_kl=conversion.fidelity.mean_kl)


def _adapters(weights: Weights, model: Model) -> dict[str, Any]:
    """Return the adapters of a model as arguments of `convert_model`."""
    folder = weights.adapter_folder
    if folder is None or model.adapter_mode is AdapterMode.merge:
        return {"adapter": folder}
    return {"separate": {name: folder / name for name in model.adapter_sources}}


if __name__ == "__main__":
    run_step("convert", convert)
