"""Which checkpoints the exporters support, by what config.json says: known before the download."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from slmflow.config.schema.target import ExporterName
from slmflow.conversion import builder_support
from slmflow.conversion.export_config import MODEL_TYPES
from slmflow.errors import UserError

# The causal language model class of each model type of transformers.
CAUSAL_LM_CLASSES: Mapping[str, str] = dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def check(weights: Path, exporter: ExporterName) -> None:
    """Raise UserError for a checkpoint folder whose architecture the exporter does not support."""
    check_config(json.loads((weights / "config.json").read_text()), exporter)


def check_config(config: Mapping[str, Any], exporter: ExporterName) -> None:
    """Raise UserError for a config.json whose architecture the exporter does not support.

    Raises it for weights that are quantized already, too.
    """
    model_type, listed = str(config.get("model_type")), config.get("architectures")
    architectures = [str(name) for name in listed] if isinstance(listed, list) else []
    names = ", ".join(architectures) or "a model whose config.json names no architecture"
    if quantization := config.get("quantization_config"):
        is_object = isinstance(quantization, dict)
        method = quantization.get("quant_method") if is_object else quantization
        raise UserError(
            f"the weights of the model ({names}) are quantized already (quant_method={method}). "
            "Choose its unquantized version; the target quantizes it"
        )
    if reason := unsupported_reason(model_type, architectures, exporter):
        others = [
            f"exporter={other.value}"
            for other in ExporterName
            if unsupported_reason(model_type, architectures, other) is None
        ]
        advice = others[0] if others else "another model, as no exporter supports it"
        raise UserError(
            f"exporter={exporter.value} does not support {names} (model type {model_type}): "
            f"{reason}. Use {advice}; docs/architectures.md, and the page of model types that "
            "`make docs` generates, list what is supported"
        )


def unsupported_reason(
    model_type: str, architectures: Sequence[str], exporter: ExporterName
) -> str | None:
    """Return why an exporter does not support an architecture, None if it does."""
    architecture = CAUSAL_LM_CLASSES.get(model_type)
    if architecture is None or not {architecture, _multimodal(architecture)} & {*architectures}:
        return "it is not a causal language model that transformers has for this type"
    if exporter is ExporterName.builder:
        return builder_support.unsupported_reason(architecture)
    return None if model_type in MODEL_TYPES else "its graph is not tested against transformers"


def _multimodal(architecture: str) -> str:
    """Return the multimodal class whose language model transformers loads as this class."""
    return architecture.replace("ForCausalLM", "ForConditionalGeneration")
