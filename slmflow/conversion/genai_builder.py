"""ONNX Runtime GenAI's model builder: writes its own graph, or the config for optimum's graph."""

import json
import tempfile
from pathlib import Path
from typing import Any

from slmflow.config.schema.target import Provider, Quantization, Target
from slmflow.console.library_output import preserve_logging, silence
from slmflow.errors import UserError

CONFIG_FILE = "genai_config.json"

# Text models that onnxruntime-genai 0.15.2 has a type for. For any other the builder guesses a
# config that the runtime then rejects.
_SUPPORTED = frozenset(
    f"{name}ForCausalLM"
    for name in (
        *("Ernie4_5", "Gemma", "Gemma2", "Gemma3", "GptOss", "Granite", "HunYuanDenseV1"),
        *("InternLM2", "Lfm2", "Llama", "Mistral", "Nemotron", "Olmo", "Phi", "Phi3", "Phi3Small"),
        *("PhiMoE", "Qwen2", "Qwen3", "SmolLM3"),
    )
)


def check_supported(weights: Path) -> None:
    """Raise UserError, before any work, for an architecture the GenAI runtime cannot run."""
    if not _SUPPORTED.intersection(_architectures(weights)):
        raise UserError(
            f"ONNX Runtime GenAI does not support {architecture_names(weights)}. Choose a model of "
            f"one of these architectures: {', '.join(sorted(_SUPPORTED))}"
        )


def write_graph(weights: Path, folder: Path, target: Target) -> None:
    """Write graph and config with the builder, quantized for the target.

    Raises UserError if the builder does not support the architecture or the quantization.
    """
    quantization = target.quantization
    precision = f"int{quantization.bits}" if quantization else target.precision.value
    _run_builder(weights, folder, precision, target.provider, _options(quantization))


def write_config(weights: Path, folder: Path, target: Target) -> None:
    """Write genai_config.json and the tokenizer files for the graph that optimum exports.

    Raises UserError if the GenAI runtime does not support the architecture.
    """
    options = ["config_only=true"]
    if target.provider is Provider.dml:
        # Graph capture needs a graph of fixed shapes.
        options.append("enable_dml_graph=false")
    _run_builder(weights, folder, target.precision.value, target.provider, options)


def enable_cache_sharing(folder: Path) -> None:
    """Set in genai_config.json that the graph updates its KV cache in place."""
    file = folder / CONFIG_FILE
    config: dict[str, Any] = json.loads(file.read_text())
    config["search"]["past_present_share_buffer"] = True
    file.write_text(json.dumps(config, indent=4))


def architecture_names(weights: Path) -> str:
    """Return the names of the model's classes for a message."""
    names = _architectures(weights)
    return ", ".join(names) if names else "a model whose config.json names no architecture"


def _architectures(weights: Path) -> list[str]:
    return json.loads((weights / "config.json").read_text()).get("architectures") or []


def _options(quantization: Quantization | None) -> list[str]:
    if quantization is None:
        return []
    return [
        f"block_size={quantization.block_size}",
        f"is_symmetric={str(quantization.symmetric).lower()}",
        f"accuracy_level={quantization.accuracy_level}",
    ]


def _run_builder(
    weights: Path, folder: Path, precision: str, provider: Provider, options: list[str]
) -> None:
    """Call the function behind the builder's command line; a child would import torch again."""
    # Imported here because the builder takes seconds to import.
    with preserve_logging():
        from onnxruntime_genai.models.builder import create_model, parse_extra_options

    with tempfile.TemporaryDirectory() as cache, silence():
        arguments = ("", str(weights), str(folder), precision, provider.value, cache)
        try:
            create_model(*arguments, **parse_extra_options(*arguments, options))
        except (ValueError, NotImplementedError, KeyError, AttributeError) as error:
            raise UserError(
                f"the GenAI model builder cannot write {architecture_names(weights)} at "
                f"{precision} for {provider.value}: {error}. Try another model or target"
            ) from error
