"""Convert a checkpoint to an ONNX model and check it against the reference."""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np

from slmflow.checkpoints import size_limits
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import ExporterName, Precision, Target
from slmflow.console import messages, progress_bars
from slmflow.conversion import genai_builder, optimum_export, reference_model, torch_tracing
from slmflow.conversion.onnx_files import GRAPH_FILE
from slmflow.conversion.passes.graph import PassReport
from slmflow.conversion.proof import exact_proof, graph_variants, parity, reference_logits
from slmflow.conversion.proof.parity import Parity
from slmflow.conversion.proof.probes import TEXTS, build_probes
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.record import ConversionRecord
from slmflow.errors import UserError
from slmflow.system.memory import peak_rss_bytes, return_freed_memory


def convert_model(weights: Path, folder: Path, target: Target, exporter: ExporterName) -> None:
    """Write the ONNX model of a checkpoint into `folder`, together with its `ConversionRecord`.

    Raises UserError if the exporter does not support the architecture, and if the result does not
    match the reference: another computation, or a probe text that is tokenized differently.
    """
    start = time.perf_counter()
    return_freed_memory()
    genai_builder.check_supported(weights)
    size_limits.check(weights)
    reference = reference_model.load(weights)
    if exporter is ExporterName.optimum:
        torch_tracing.check_exportable(weights, reference.model.config)
    checkpoint = CheckpointTensors.for_model(weights, reference.model)
    probes = build_probes(reference.tokenizer)
    exact, passes = None, tuple[PassReport, ...]()
    graph: AbstractContextManager[str] = nullcontext(GRAPH_FILE)
    if exporter is ExporterName.builder:
        with progress_bars.spinner(f"the GenAI model builder writes {target.name}"):
            genai_builder.write_graph(weights, folder, target)
        if target.quantization is not None:
            messages.warning(
                "exporter=builder: parity is measured, but the graph is not proven, because its "
                "faults cannot be separated from the effects of quantization"
            )
    else:
        exported = optimum_export.export(weights, reference, checkpoint, folder, target)
        exact = exact_proof.prove(exported, reference, checkpoint, folder, target, probes)
        passes, graph = exported.passes, graph_variants.all_positions(folder)
    prompts = [probe.prompt_ids for probe in probes]
    expected = reference_logits.compute(reference.model, checkpoint, prompts)
    with graph as name:
        reached = parity.measure(expected, folder, name, probes, target.name)
    _check_parity(reached, expected, target)
    ConversionRecord(
        parity=reached,
        exact_max_abs_diff=exact,
        passes=passes,
        seconds=time.perf_counter() - start,
        peak_rss_mb=None if (peak := peak_rss_bytes()) is None else peak / 1e6,
        onnx_size_mb=sum(file.stat().st_size for file in folder.glob(f"{GRAPH_FILE}*")) / 1e6,
    ).write(folder)


def _check_parity(reached: Parity, expected: Sequence[Logits], target: Target) -> None:
    """Raise UserError for any tokenizer mismatch, and for fp32 logits above the tolerance."""
    if reached.tokenizer_mismatches:
        raise UserError(
            f"the GenAI runtime tokenizes or renders {reached.tokenizer_mismatches} of "
            f"{len(TEXTS)} probe texts differently than transformers, so the converted model would "
            "answer differently. Choose a model with another tokenizer"
        )
    if target.precision is Precision.fp32 and target.quantization is None:
        largest = float(max(np.abs(logits).max() for logits in expected))
        exact_proof.check_tolerance(reached.max_abs_diff, largest=largest)
