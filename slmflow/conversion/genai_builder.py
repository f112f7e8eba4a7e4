"""What the model builder of ONNX Runtime GenAI writes: its own graph, or the config beside ours."""

import json
import tempfile
from pathlib import Path
from typing import Any

from slmflow.config.schema.target import Provider, Quantization, Target
from slmflow.console.messages import logging_untouched, quiet
from slmflow.errors import UserError

CONFIG = "genai_config.json"

# Text models that onnxruntime-genai 0.15.2 has a type for; for any other the builder guesses a
# config, and the runtime then refuses it.
_KNOWN = frozenset(
    f"{name}ForCausalLM"
    for name in (
        *("Ernie4_5", "Gemma", "Gemma2", "Gemma3", "GptOss", "Granite", "HunYuanDenseV1"),
        *("InternLM2", "Lfm2", "Llama", "Mistral", "Nemotron", "Olmo", "Phi", "Phi3", "Phi3Small"),
        *("PhiMoE", "Qwen2", "Qwen3", "SmolLM3"),
    )
)


def check_known(weights: Path) -> None:
    """Raise UserError, before any work, for an architecture the GenAI runtime cannot run."""
    names = json.loads((weights / "config.json").read_text()).get("architectures") or []
    if not _KNOWN.intersection(names):
        raise UserError(
            f"ONNX Runtime GenAI does not run {architecture(weights)}: choose a model of one of "
            f"{', '.join(sorted(_KNOWN))}"
        )


def write_graph(weights: Path, folder: Path, target: Target) -> None:
    """Write graph and config with the GenAI model builder, quantized for the target.

    Raises UserError where the builder does not know the model's architecture, or not the way the
    target quantizes.
    """
    quantization = target.quantization
    precision = f"int{quantization.bits}" if quantization else target.precision.value
    _run(weights, folder, precision, target.provider, _options(quantization))


def write_config(weights: Path, folder: Path, target: Target) -> None:
    """Write genai_config.json and the tokenizer files that fit the graph optimum writes.

    Raises UserError where the GenAI runtime does not know the model's architecture.
    """
    options = ["config_only=true"]
    if target.provider is Provider.dml:
        # Graph capture needs a graph of fixed shapes.
        options.append("enable_dml_graph=false")
    _run(weights, folder, target.precision.value, target.provider, options)


def share_cache(folder: Path) -> None:
    """Tell the runtime that the graph updates its KV cache in place."""
    file = folder / CONFIG
    config: dict[str, Any] = json.loads(file.read_text())
    config["search"]["past_present_share_buffer"] = True
    file.write_text(json.dumps(config, indent=4))


def architecture(weights: Path) -> str:
    """Return the name of the model's class, for messages."""
    names = json.loads((weights / "config.json").read_text()).get("architectures")
    return ", ".join(names) if names else "a model whose config.json names no architecture"


def _options(quantization: Quantization | None) -> list[str]:
    if quantization is None:
        return []
    return [
        f"block_size={quantization.block_size}",
        f"is_symmetric={str(quantization.symmetric).lower()}",
        f"accuracy_level={quantization.accuracy_level}",
    ]


def _run(
    weights: Path, folder: Path, precision: str, provider: Provider, options: list[str]
) -> None:
    """Call what the builder's command line calls, without a second process that imports torch."""
    # Imported here: the builder takes seconds to import.
    with logging_untouched():
        from onnxruntime_genai.models.builder import create_model, parse_extra_options

    with tempfile.TemporaryDirectory() as cache, quiet():
        arguments = ("", str(weights), str(folder), precision, provider.value, cache)
        try:
            create_model(*arguments, **parse_extra_options(*arguments, options))
        except (ValueError, NotImplementedError, KeyError, AttributeError) as error:
            raise UserError(
                f"the GenAI model builder cannot write {architecture(weights)} at {precision} "
                f"for {provider.value}: {error}. Try another model, or another target"
            ) from error
