"""Write the ONNX graph of a causal language model, and the files the GenAI runtime reads beside it.

Two exporters: optimum, from the traced PyTorch model, and the model builder of ONNX Runtime GenAI,
from its own templates. The builder's `config_only` also makes genai_config.json and the tokenizer
files for optimum's graph.
"""

import json
import tempfile
from pathlib import Path

from steps.common.config import Provider, Quantization, Target
from steps.common.console import quiet
from steps.common.errors import UserError

GRAPH = "model.onnx"


def export_with_optimum(weights: Path, folder: Path) -> None:
    """Export the model of a snapshot folder to `folder/model.onnx` in fp32, with a KV cache.

    Raises UserError where optimum has no export for the model's architecture.
    """
    # Imported here: optimum takes seconds, and the builder needs none of it.
    from optimum.exporters.onnx import main_export

    with quiet():
        try:
            main_export(
                str(weights),
                output=folder,
                task="text-generation-with-past",
                framework="pt",
                library_name="transformers",
                do_validation=False,
                local_files_only=True,
                trust_remote_code=False,
            )
        except (ValueError, NotImplementedError, KeyError) as error:
            raise UserError(
                f"optimum cannot export {architecture(weights)}: {error}. "
                "Try exporter=builder, or another model"
            ) from error


def build_with_genai(weights: Path, folder: Path, target: Target) -> None:
    """Write graph and config with the GenAI model builder, quantized for the target.

    Raises UserError where the builder does not know the model's architecture.
    """
    quantization = target.quantization
    precision = f"int{quantization.bits}" if quantization else target.precision.value
    _run_builder(weights, folder, precision, target.provider, _builder_options(quantization))


def write_genai_config(weights: Path, folder: Path, target: Target) -> None:
    """Write genai_config.json and the tokenizer files that fit the graph optimum wrote."""
    options = ["config_only=true"]
    if target.provider is Provider.dml:
        # Graph capture needs a KV cache updated in place, which optimum's graph has not.
        options.append("enable_dml_graph=false")
    _run_builder(weights, folder, target.precision.value, target.provider, options)


def _builder_options(quantization: Quantization | None) -> list[str]:
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
    """Call what the builder's command line calls, without a second process that imports torch."""
    # Imported here: the builder takes seconds to import.
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


def architecture(weights: Path) -> str:
    """Return the name of the model's class, for messages."""
    names = json.loads((weights / "config.json").read_text()).get("architectures")
    return ", ".join(names) if names else "a model whose config.json names no architecture"
