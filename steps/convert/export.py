"""optimum's export, made fast by graph passes and written in the target's precision."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir

from steps.common import console
from steps.common.config import Precision, Quantization, Target
from steps.convert import builder, decoder, passes, skeleton
from steps.convert.checkpoint import Checkpoint
from steps.convert.lowering import lower
from steps.convert.passes.graph import Matched
from steps.convert.reference import Original
from steps.convert.saving import save
from steps.convert.schemes import Scheme


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

    No more than one weight is in memory at a time. Raises UserError, before any work, for an
    architecture that optimum or the GenAI runtime does not know.
    """
    skeleton.check_exportable(weights, original.model.config)
    builder.write_config(weights, folder, target)
    with console.working("optimum exports the graph"):
        traceable = skeleton.weightless(original.model)
        graph = skeleton.trace(traceable)
    with console.working("the passes rewrite the graph"):
        matched = passes.fuse(graph, decoder.describe(traceable))
    _tell(matched)
    if matched[0].matched:
        builder.share_cache(folder)
    written = graph.clone()
    half = target.precision is Precision.fp16
    schemes = lower(written, checkpoint, target.quantization, half=half)
    save(written, folder, f"weights for {target.name}")
    return Exported(tuple(matched), graph, target.quantization, schemes)


def _tell(matched: list[Matched]) -> None:
    console.say("graph passes: " + ", ".join(f"{m.name} {m.matched}" for m in matched))
    for incomplete in (m for m in matched if m.reason):
        console.warn(
            f"graph pass {incomplete.name}: {incomplete.reason}; that part stays as optimum "
            "exported it, and runs slower"
        )
