"""optimum's export, made fast by graph passes and written in the target's precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
from transformers import PretrainedConfig

from slmflow.checkpoints.tensors import Checkpoint
from slmflow.config.schema.target import Precision, Quantization, Target
from slmflow.console import messages
from slmflow.conversion import decoder, genai_builder, passes, tracing
from slmflow.conversion.external_data import save
from slmflow.conversion.passes.graph import Matched
from slmflow.conversion.quantization.lowering import lower
from slmflow.conversion.quantization.schemes import Scheme
from slmflow.conversion.reference_model import Original
from slmflow.errors import UserError

# At this length ONNX Runtime GenAI 0.15.2 computes the KV cache of a phi3 model anew, if it runs
# one text and no batch. It is the original length of all Phi models with LongRoPE.
_BORDER = 4096


@dataclass(frozen=True)
class Exported:
    """A graph that was written, and what a proof of it needs.

    passes: what each pass matched; graph: the fused graph in fp32, its weights still inputs;
    quantization: the target's; schemes: how which weights are quantized.
    """

    passes: tuple[Matched, ...]
    graph: ir.Model
    quantization: Quantization | None
    schemes: Mapping[str, Scheme]


def export(
    weights: Path, original: Original, checkpoint: Checkpoint, folder: Path, target: Target
) -> Exported:
    """Write graph, weights and config of a model into `folder`, as the target has them.

    No more than one weight is in memory at a time. Raises UserError where the GenAI builder has no
    config for the model, and for a graph that would be wrong for long texts.
    """
    genai_builder.write_config(weights, folder, target)
    with messages.working("optimum exports the graph"):
        traceable = tracing.weightless(original.model)
        graph = tracing.trace(traceable)
    described = decoder.describe(traceable)
    with messages.working("the passes rewrite the graph"):
        matched = passes.fuse(graph, described)
    _tell(matched)
    if matched[0].matched:
        _tell_borders(described)
        genai_builder.share_cache(folder)
    else:
        _refuse_lengths(original.model.config)
    written = graph.clone()
    half = target.precision is Precision.fp16
    schemes = lower(written, checkpoint, target.quantization, half=half)
    save(written, folder, f"weights for {target.name}")
    return Exported(tuple(matched), graph, target.quantization, schemes)


def _tell(matched: list[Matched]) -> None:
    messages.say("graph passes: " + ", ".join(f"{m.name} {m.matched}" for m in matched))
    for incomplete in (m for m in matched if m.reason):
        messages.warn(
            f"graph pass {incomplete.name}: {incomplete.reason}; that part stays as optimum "
            "exported it, and runs slower"
        )


def _tell_borders(model: decoder.Decoder) -> None:
    """Warn of LongRoPE whose border the runtime does not know; at its own it computes anew."""
    for border in sorted({rotary.switch for rotary in model.rotaries.values()} - {0, _BORDER}):
        messages.warn(
            f"the model rotates texts of more than {border} tokens by other angles, and ONNX "
            f"Runtime GenAI computes what came before anew at {_BORDER} tokens only: an answer "
            f"that grows past {border} is another from there on than transformers'. Prompts that "
            "are longer already are right"
        )


def _refuse_lengths(config: PretrainedConfig) -> None:
    """Raise UserError for LongRoPE, warn of windows: both are right in the fused graph only.

    optimum's has the short factors alone, and takes padding for text in a window.
    """
    scaling = getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type", scaling.get("type")) == "longrope":
        raise UserError(
            f"optimum's graph of {config.model_type} is wrong for long texts: it has but the short "
            "factors of its LongRoPE, and its attention could not be replaced. Try exporter=builder"
        )
    if window := getattr(config, "sliding_window", None):
        messages.warn(
            f"optimum's graph counts padding in the sliding window of {window} tokens: in a batch "
            "of unequal lengths the shorter texts see less. Generate one text at a time, or try "
            "exporter=builder"
        )
