"""The export configuration of a decoder, registered with optimum for the supported model types.

optimum's core package describes what an export needs: the inputs and outputs of a model, their
dynamic axes, and tensors to trace with. optimum-onnx, which has such configurations for ONNX, does
not support transformers 5.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from optimum.exporters.base import ExporterConfig
from optimum.exporters.tasks import TasksManager
from optimum.utils.input_generators import DummyInputGenerator, DummyTextInputGenerator
from optimum.utils.normalized_config import NormalizedTextConfig
from transformers import PreTrainedModel
from transformers.cache_utils import DynamicCache, DynamicLayer

BACKEND = "onnx"
TASK = "text-generation-with-past"

Axes = dict[str, dict[int, str]]

# Model types whose every layer is attention over a cache of keys and values of one shape. Each is
# tested against transformers.
MODEL_TYPES = (
    *("ernie4_5", "gemma", "gemma2", "gemma3_text", "granite", "hunyuan_v1_dense", "llama"),
    *("ministral3", "mistral", "nemotron", "olmo", "olmo2", "olmo3", "phi", "phi3", "qwen2"),
    *("qwen3", "smollm3"),
)

_BATCH = "batch_size"
_SEQUENCE = "sequence_length"
_PAST = "past_sequence_length"
_TOTAL = f"{_PAST} + {_SEQUENCE}"
_TRACED_PAST_TOKENS = 16


class DummyCacheGenerator(DummyInputGenerator):  # type: ignore[misc]
    """Generate the KV cache to trace with, for grouped heads of any size."""

    SUPPORTED_INPUT_NAMES = ("past_key_values",)

    def __init__(self, task: str, normalized_config: Any, batch_size: int = 2, **_: Any) -> None:
        """Keep what the shape depends on."""
        config = normalized_config.config
        heads = config.num_attention_heads
        self.layers = config.num_hidden_layers
        self.shape = (
            batch_size,
            getattr(config, "num_key_value_heads", None) or heads,
            _TRACED_PAST_TOKENS,
            getattr(config, "head_dim", None) or config.hidden_size // heads,
        )

    def generate(
        self,
        input_name: str,
        framework: str = "pt",
        int_dtype: str = "int64",
        float_dtype: str = "fp32",
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return random keys and values of each layer: [batch, KV heads, tokens, head size]."""
        return [
            (
                self.random_float_tensor(self.shape, framework=framework, dtype=float_dtype),
                self.random_float_tensor(self.shape, framework=framework, dtype=float_dtype),
            )
            for _ in range(self.layers)
        ]


class DecoderExportConfig(ExporterConfig):  # type: ignore[misc]
    """Inputs and outputs of a decoder with a KV cache, under the names of optimum's ONNX export."""

    NORMALIZED_CONFIG_CLASS = NormalizedTextConfig
    DUMMY_INPUT_GENERATOR_CLASSES = (DummyTextInputGenerator, DummyCacheGenerator)
    SUPPORTS_PAST = True
    OPSET = 18

    def __init__(self, config: Any, task: str = "text-generation", use_past: bool = True) -> None:
        """Describe a model of this config; `use_past` is how TasksManager asks for the cache."""
        if not use_past:
            raise ValueError("a decoder is exported with its KV cache only")
        super().__init__(config, task)

    @property
    def inputs(self) -> Axes:
        """Dynamic axes by the names of the model's arguments."""
        return {
            "input_ids": {0: _BATCH, 1: _SEQUENCE},
            "attention_mask": {0: _BATCH, 1: _TOTAL},
            "position_ids": {0: _BATCH, 1: _SEQUENCE},
            "past_key_values": {0: _BATCH, 2: _PAST},
        }

    @property
    def flat_inputs(self) -> Axes:
        """Dynamic axes by the names of the graph's inputs."""
        axes = self.inputs
        cache = axes.pop("past_key_values")
        return axes | self._flatten("past_key_values", cache)

    @property
    def outputs(self) -> Axes:
        """Dynamic axes by the names of the graph's outputs."""
        logits = {"logits": {0: _BATCH, 1: _SEQUENCE}}
        return logits | self._flatten("present", {0: _BATCH, 2: _TOTAL})

    def generate_dummy_inputs(self, framework: str = "pt", **kwargs: Any) -> dict[str, Any]:
        """Generate inputs to trace with; the attention mask covers the cache too."""
        inputs: dict[str, Any] = super().generate_dummy_inputs(framework, **kwargs)
        mask = inputs["attention_mask"]
        past = torch.ones(mask.shape[0], _TRACED_PAST_TOKENS, dtype=mask.dtype)
        return inputs | {"attention_mask": torch.cat([past, torch.ones_like(mask)], dim=1)}

    def _flatten(self, prefix: str, axes: dict[int, str]) -> Axes:
        return {
            f"{prefix}.{layer}.{part}": dict(axes)
            for layer in range(self._normalized_config.num_layers)
            for part in ("key", "value")
        }


for _model_type in MODEL_TYPES:
    TasksManager.create_register(BACKEND)(_model_type, TASK)(DecoderExportConfig)


@contextmanager
def cache_as_tensors(model: PreTrainedModel) -> Iterator[None]:
    """Let a model accept and return its KV cache as tensors rather than as a cache object.

    `forward` then takes input_ids, attention_mask, position_ids and past_key_values, a list of
    (keys, values), and returns the logits of all positions and the longer cache in that form.
    """
    original = model.forward

    def forward(
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_key_values: Sequence[tuple[torch.Tensor, torch.Tensor]],
    ) -> dict[str, Any]:
        output = original(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=_cache_of(past_key_values),
            use_cache=True,
            logits_to_keep=0,
        )
        layers = output.past_key_values.layers
        return {
            "logits": output.logits,
            "past_key_values": [(layer.keys, layer.values) for layer in layers],
        }

    model.forward = forward
    try:
        yield
    finally:
        del model.forward


def _cache_of(tensors: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> DynamicCache:
    """Return a cache that keeps all tokens; the mask alone limits a layer to its window."""
    cache = DynamicCache()
    for keys, values in tensors:
        layer = DynamicLayer()
        layer.lazy_initialization(keys, values)
        layer.keys, layer.values = keys, values
        cache.layers.append(layer)
    return cache
