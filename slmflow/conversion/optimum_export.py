"""exporter=optimum: trace the model, rewrite the graph, write it for the target."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir
from transformers import PretrainedConfig

from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import Algorithm, Precision, Target
from slmflow.console import messages, progress_bars
from slmflow.conversion import decoder_spec, genai_builder, rotary, torch_tracing
from slmflow.conversion.calibration import quantize_graph
from slmflow.conversion.calibration.preparation import ModelTensors
from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.onnx_files import save
from slmflow.conversion.passes.apply import apply_all
from slmflow.conversion.passes.graph import PassReport
from slmflow.conversion.quantization import schemes
from slmflow.conversion.quantization.blockwise import QuantizedWeight
from slmflow.conversion.quantization.lowering import lower
from slmflow.conversion.quantization.schemes import Scheme
from slmflow.conversion.reference_model import ReferenceModel
from slmflow.conversion.separate_adapters import branches
from slmflow.conversion.separate_adapters.files import GraphAdapter
from slmflow.errors import UserError

# At this length ONNX Runtime GenAI 0.15.2 recomputes the KV cache of a phi3 model, if it generates
# one text and not a batch. It is the original context length of all Phi models with LongRoPE.
_CACHE_RECOMPUTED_AT = 4096


@dataclass(frozen=True)
class RewrittenGraph:
    """A traced graph after the passes.

    passes: report of each graph pass; graph: in fp32, its weights still inputs.
    """

    passes: tuple[PassReport, ...]
    graph: ir.Model


@dataclass(frozen=True)
class ExportedModel(RewrittenGraph):
    """An exported graph and what its proof needs.

    schemes: scheme of each quantized weight by its name; tensors: what the other weights are read
    from, the checkpoint or the same function with other scales; adapters: in the folder.
    """

    schemes: Mapping[str, Scheme]
    tensors: ModelTensors
    adapters: tuple[GraphAdapter, ...] = ()


def export(
    weights: Path,
    reference: ReferenceModel,
    checkpoint: CheckpointTensors,
    folder: Path,
    target: Target,
    windows: Sequence[Sequence[int]],
    scratch: Path,
    adapters: Mapping[str, LoraAdapter] = MappingProxyType({}),
) -> ExportedModel:
    """Write graph, weights and genai_config.json into `folder`, lowered to the target.

    windows: token ids that algorithm=gptq calibrates on, in the folder `scratch`; adapters: kept
    separate, by name, each in a file beside the graph. At most one weight, or one layer during
    calibration, is in memory at a time. Raises UserError as `trace_and_rewrite`, `branches.add` and
    `schemes.choose` do.
    """
    rewritten = trace_and_rewrite(weights, reference, folder, target)
    adapted = {path for adapter in adapters.values() for path in adapter.modules}
    added = branches.add(rewritten.graph, adapted) if adapted else []
    chosen = choose_schemes(rewritten, target)
    quantized: Mapping[str, QuantizedWeight] = {}
    tensors: ModelTensors = checkpoint
    if target.quantization is not None and target.is_calibrated:
        chosen, quantized, tensors = quantize_graph.quantize(
            rewritten.graph,
            chosen,
            target.quantization,
            reference.model,
            checkpoint,
            windows,
            scratch,
            fp16=_is_fp16(target),
        )
    exported = write(rewritten, tensors, chosen, quantized, folder, target)
    graph_adapters = [GraphAdapter(name, each, tensors) for name, each in adapters.items()]
    for adapter in graph_adapters:
        adapter.write(folder, added)
    return dataclasses.replace(exported, adapters=tuple(graph_adapters))


def trace_and_rewrite(
    weights: Path, reference: ReferenceModel, folder: Path, target: Target
) -> RewrittenGraph:
    """Trace the model and apply the passes; write genai_config.json into `folder`.

    Raises UserError if the GenAI builder has no config for the model, and for a graph that would be
    wrong for long texts.
    """
    genai_builder.write_config(weights, folder, target)
    with progress_bars.spinner("optimum exports the graph"):
        traceable = torch_tracing.make_traceable(reference.model)
        graph = torch_tracing.trace(traceable)
    decoder = decoder_spec.describe(traceable)
    with progress_bars.spinner("the passes rewrite the graph"):
        reports = apply_all(graph, decoder)
    _show(reports)
    if reports[0].matched:
        _warn_of_stale_cache(decoder)
        genai_builder.enable_cache_sharing(folder)
    else:
        _check_unfused_attention(reference.model.config)
    return RewrittenGraph(tuple(reports), graph)


def choose_schemes(rewritten: RewrittenGraph, target: Target) -> dict[str, Scheme]:
    """Return the schemes by weight name, see `schemes.choose`."""
    return schemes.choose(rewritten.graph.graph, target.quantization, fp16=_is_fp16(target))


def write(
    rewritten: RewrittenGraph,
    tensors: ModelTensors,
    chosen: Mapping[str, Scheme],
    quantized: Mapping[str, QuantizedWeight],
    folder: Path,
    target: Target,
) -> ExportedModel:
    """Write graph and weights into `folder`, lowered to the target; see `lower`.

    At most one weight is in memory at a time.
    """
    lowered = rewritten.graph.clone()
    lower(lowered, tensors, chosen, quantized, fp16=_is_fp16(target))
    save(lowered, folder, f"weights for {target.name}")
    return ExportedModel(rewritten.passes, rewritten.graph, chosen, tensors)


def write_plainly_rounded(
    exported: ExportedModel, checkpoint: CheckpointTensors, folder: Path, target: Target
) -> None:
    """Write the graph of a calibrated model into another folder, its weights rounded to nearest.

    Bits, blocks and symmetry of each weight stay.
    """
    scale_type = schemes.scale_type(Algorithm.rtn, fp16=_is_fp16(target))
    plain = {
        name: dataclasses.replace(scheme, algorithm=Algorithm.rtn, scale_type=scale_type)
        for name, scheme in exported.schemes.items()
    }
    write(exported, checkpoint, plain, {}, folder, target)


def _is_fp16(target: Target) -> bool:
    return target.precision is Precision.fp16


def _show(reports: Sequence[PassReport]) -> None:
    messages.info("graph passes: " + ", ".join(f"{r.name} {r.matched}" for r in reports))
    for report in (r for r in reports if r.reason):
        messages.warning(
            f"graph pass {report.name}: {report.reason}; that part stays as optimum exported it "
            "and runs slower"
        )


def _warn_of_stale_cache(decoder: DecoderSpec) -> None:
    """Warn of LongRoPE whose original length is not the one where the runtime recomputes."""
    lengths = {cache.original_length for cache in decoder.rotary_caches.values()}
    for length in sorted(lengths - {0, _CACHE_RECOMPUTED_AT}):
        messages.warning(
            f"the model uses other rotary angles for texts of more than {length} tokens, but ONNX "
            f"Runtime GenAI recomputes its KV cache at {_CACHE_RECOMPUTED_AT} tokens only: an "
            f"answer that grows past {length} tokens differs from transformers' from there on. "
            "Longer prompts are not affected"
        )


def _check_unfused_attention(config: PretrainedConfig) -> None:
    """Raise UserError for LongRoPE and warn of sliding windows, which only the fused graph has.

    optimum's graph has the short LongRoPE factors alone, and counts padding in a window as text.
    """
    if rotary.LONGROPE in rotary.rope_types(config):
        raise UserError(
            f"optimum's graph of {config.model_type} is wrong for long texts: it has only the "
            "short factors of LongRoPE, and its attention could not be fused. Try exporter=builder"
        )
    if window := getattr(config, "sliding_window", None):
        messages.warning(
            f"optimum's graph counts padding in the sliding window of {window} tokens: in a batch "
            "of unequal lengths the shorter texts lose context. Generate one text at a time, or "
            "try exporter=builder"
        )
