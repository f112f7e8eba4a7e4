"""Which models ONNX Runtime GenAI's model builder writes correctly.

Each entry was compared with transformers. For other settings the builder writes a wrong graph,
which nothing would reveal once it is quantized, or stops halfway.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from slmflow.conversion import rotary
from slmflow.errors import UserError

_LINEAR = frozenset({"default", "linear"})
_LLAMA3 = frozenset({"default", "dynamic", "llama3"})

# The rotary types that the builder implements, by architecture.
ROPE_TYPES: Mapping[str, frozenset[str]] = {
    "Ernie4_5ForCausalLM": _LINEAR,
    "Gemma2ForCausalLM": _LINEAR,
    "Gemma3ForCausalLM": frozenset({"default"}),
    "GemmaForCausalLM": _LINEAR,
    "GptOssForCausalLM": frozenset({"yarn"}),
    "GraniteForCausalLM": _LINEAR,
    "GraniteMoeHybridForCausalLM": _LINEAR,
    "HunYuanDenseV1ForCausalLM": frozenset({"default", "dynamic"}),
    "Lfm2ForCausalLM": _LINEAR,
    "LlamaForCausalLM": _LLAMA3,
    "MistralForCausalLM": _LINEAR,
    "NemotronForCausalLM": _LLAMA3,
    "OlmoForCausalLM": _LINEAR,
    "Phi3ForCausalLM": frozenset({"default", "longrope"}),
    "PhiForCausalLM": _LINEAR,
    "Qwen2ForCausalLM": _LINEAR,
    "Qwen3ForCausalLM": _LINEAR,
    "Qwen3_5ForCausalLM": frozenset({"default"}),
    "SmolLM3ForCausalLM": _LLAMA3,
}

# Why an architecture that the builder has code for is not supported.
REASONS: Mapping[str, str] = {
    "Gemma3ForConditionalGeneration": "it is multimodal; Gemma3ForCausalLM is its text model",
    "Gemma4ForConditionalGeneration": "it is multimodal",
    "Gemma4ForCausalLM": "the builder has no per-layer embeddings and no shared KV cache",
    "Gemma4UnifiedForCausalLM": "the builder reads it only as a part of the multimodal model",
    "Lfm2MoeForCausalLM": "convert does not read experts that are stored one by one",
    "Ministral3ForCausalLM": "the builder does not scale queries by their position",
    "PhimoeForCausalLM": "the builder writes its experts for CUDA only",
    "Qwen3_5MoeForCausalLM": "the builder reads it only as a part of the multimodal model",
}

# Of all others it says this.
NO_CODE = "the builder has no code for it"

# Settings that the builder ignores, and that change the logits where they are set.
_IGNORED_SETTINGS: Mapping[str, Sequence[str]] = {
    "Gemma3ForCausalLM": ("attn_logit_softcapping", "use_bidirectional_attention"),
    "GraniteMoeHybridForCausalLM": ("num_local_experts",),
    "Lfm2ForCausalLM": ("conv_bias",),
    "NemotronForCausalLM": ("mlp_bias",),
    "OlmoForCausalLM": ("clip_qkv",),
    "PhiForCausalLM": ("qk_layernorm",),
}

# ONNX Runtime's GroupQueryAttention on a CPU needs multiples of these.
_HEAD_SIZE_MULTIPLE = 16


def unsupported_reason(architecture: str) -> str | None:
    """Return why the builder is not used for an architecture, None if it is."""
    if architecture in ROPE_TYPES:
        return None
    return REASONS.get(architecture, NO_CODE)


def check_settings(model: Any) -> None:
    """Raise UserError, before any work, for settings for which the builder's graph is wrong.

    model: a PreTrainedModel of a supported architecture; its weights are not read.
    """
    architecture = type(model).__name__
    if problems := list(_problems(architecture, model.config)):
        raise UserError(
            f"exporter=builder does not support {architecture} with {', '.join(problems)}. Try "
            "exporter=optimum, or another model"
        )


def _problems(architecture: str, config: Any) -> Iterator[str]:
    parameters = config.rope_parameters or {}
    for rope_type in sorted(rotary.rope_types(config) - ROPE_TYPES[architecture]):
        yield f"a rotary embedding of type {rope_type}"
    if parameters.get("rope_type") == "yarn" and parameters.get("truncate", True):
        yield "truncate=true in its rotary embedding"
    for name in _IGNORED_SETTINGS.get(architecture, ()):
        if value := getattr(config, name, None):
            yield f"{name}={value}"
    match architecture:
        case "HunYuanDenseV1ForCausalLM" if _is_dynamic_without_alpha(parameters):
            yield "a dynamic rotary embedding without alpha"
        case "GraniteMoeHybridForCausalLM":
            if set(config.layer_types) != {"full_attention"}:
                yield "Mamba layers"
            if config.position_embedding_type != "rope":
                yield f"position_embedding_type={config.position_embedding_type}"
    head_size = getattr(config, "head_dim", None)
    head_size = head_size or config.hidden_size // config.num_attention_heads
    rotary_size = int(head_size * parameters.get("partial_rotary_factor", 1))
    for name, size in (("heads", head_size), ("rotated parts of heads", rotary_size)):
        if size % _HEAD_SIZE_MULTIPLE:
            yield f"{name} of size {size}, not a multiple of {_HEAD_SIZE_MULTIPLE}"


def _is_dynamic_without_alpha(parameters: Mapping[str, Any]) -> bool:
    return parameters.get("rope_type") == "dynamic" and not parameters.get("alpha")
