"""ONNX Runtime GenAI's model builder: writes its own graph, or the config for optimum's graph."""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from slmflow.config.schema.target import Provider, Quantization, Target
from slmflow.console.library_output import preserve_logging, silence
from slmflow.conversion import genai_builder_shims, rotary
from slmflow.errors import UserError

CONFIG_FILE = "genai_config.json"

# The runtime's types of the architectures that have one of their own. Any other decoder runs as
# the type `decoder`, which is the same code: only phi3 differs, in what it does for LongRoPE. It
# would read long texts of a Phi-3 without LongRoPE again, too.
_LONGROPE_TYPE, _PLAIN_TYPE = "phi3", "decoder"
_RUNTIME_TYPES = {
    f"{name}ForCausalLM": name.lower()
    for name in (
        *("Ernie4_5", "Gemma", "Gemma2", "Granite", "HunYuanDenseV1", "Llama", "Mistral"),
        *("Nemotron", "Olmo", "Phi", "Phi3", "Qwen2", "Qwen3", "SmolLM3"),
    )
} | {"Gemma3ForCausalLM": "gemma3_text"}

# By the first default, the KV cache of a layer with a sliding window has the window's size, which
# optimum's graph does not expect. By the second, the norms of queries and keys are fused into an
# operator that CPUs lack, where graphs for a GPU are compared with transformers.
_FIXED_OPTIONS = ("windowed_kv_cache=false", "fuse_qk_norm_gqa=false")

# What the builder raises for a model or an option that it cannot handle.
_BUILDER_ERRORS = (
    *(ArithmeticError, AssertionError, AttributeError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)


def write_graph(weights: Path, folder: Path, target: Target) -> None:
    """Write graph and config with the builder, quantized for the target.

    Raises UserError if the builder does not support the architecture or the quantization.
    """
    quantization = target.quantization
    precision = f"int{quantization.bits}" if quantization else target.precision.value
    options = _options(quantization)
    _run_builder(weights, folder, precision, target, options, genai_builder_shims.adapt)


def write_config(weights: Path, folder: Path, target: Target) -> None:
    """Write genai_config.json and the tokenizer files for the graph that optimum exports."""
    options = ["config_only=true"]
    if target.provider is Provider.dml:
        # Graph capture needs a graph of fixed shapes.
        options.append("enable_dml_graph=false")
    rope_types: set[str] = set()

    def adapt(config: Any) -> None:
        rope_types.update(rotary.rope_types(config))
        genai_builder_shims.adapt_for_config(config)

    _run_builder(weights, folder, target.precision.value, target, options, adapt)
    with edited_config(folder) as config:
        known = (_RUNTIME_TYPES.get(name) for name in _architectures(weights))
        kind = next(filter(None, known), _PLAIN_TYPE)
        if kind == _LONGROPE_TYPE and rotary.LONGROPE not in rope_types:
            kind = _PLAIN_TYPE
        config["model"]["type"] = kind


def enable_cache_sharing(folder: Path) -> None:
    """Set in genai_config.json that the graph updates its KV cache in place."""
    with edited_config(folder) as config:
        config["search"]["past_present_share_buffer"] = True


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
    weights: Path,
    folder: Path,
    precision: str,
    target: Target,
    options: list[str],
    adapt: Callable[[Any], None],
) -> None:
    """Call the functions behind the builder's command line; a child would import torch again."""
    # Imported here because the builder takes seconds to import.
    with preserve_logging():
        from onnxruntime_genai.models.builder import create_model, parse_extra_options

    provider = target.provider.value
    with tempfile.TemporaryDirectory() as cache, silence():
        arguments = ("", str(weights), str(folder), precision, provider, cache)
        try:
            parsed = parse_extra_options(*arguments, [*options, *_FIXED_OPTIONS])
            config = parsed["hf_details"]["hf_config"]
            adapt(config)
            with genai_builder_shims.corrected_classes(config):
                create_model(*arguments, **parsed)
        except _BUILDER_ERRORS as error:
            raise UserError(
                f"the GenAI model builder cannot write {architecture_names(weights)} at "
                f"{precision} for {provider}: {str(error) or repr(error)}. Try another model or "
                "target"
            ) from error


@contextmanager
def edited_config(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield genai_config.json to change it."""
    file = folder / CONFIG_FILE
    config = json.loads(file.read_text("utf-8"))
    yield config
    file.write_text(json.dumps(config, indent=4), "utf-8")
