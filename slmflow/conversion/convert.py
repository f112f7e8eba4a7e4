"""Convert a checkpoint to an ONNX model and check it against the reference."""

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np

from slmflow.checkpoints import size_limits, tokenizer_files
from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.calibration import Calibration
from slmflow.config.schema.target import ExporterName, Precision, Target
from slmflow.console import messages, progress_bars
from slmflow.conversion import (
    builder_support,
    genai_builder,
    generation_config,
    optimum_export,
    reference_model,
    supported_models,
)
from slmflow.conversion.calibration import text
from slmflow.conversion.onnx_files import GRAPH_FILE
from slmflow.conversion.optimum_export import ExportedModel
from slmflow.conversion.proof import (
    exact_proof,
    fidelity,
    folder_fidelity,
    genai_tokenizer,
    graph_variants,
    held_out,
    parity,
    tokenization,
)
from slmflow.conversion.proof.fp16_range import LargestValue
from slmflow.conversion.proof.parity import Parity
from slmflow.conversion.proof.probes import build_prompts
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.proof.runtime_process import Call, run_calls
from slmflow.conversion.record import ConversionRecord
from slmflow.conversion.reference_model import ReferenceModel
from slmflow.errors import UserError
from slmflow.system.memory import peak_rss_bytes, return_freed_memory

_CALIBRATION_WINDOW = 512  # tokens


def convert_model(
    weights: Path,
    folder: Path,
    target: Target,
    exporter: ExporterName,
    calibration: Calibration,
    scratch: Path | None = None,
    adapter: Path | None = None,
    separate: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Write the ONNX model of a checkpoint into `folder`, together with its `ConversionRecord`.

    scratch: folder where algorithm=gptq keeps what it has finished, and continues after a kill;
    None: nothing is kept. adapter: folder of one that is merged into each weight as it is read;
    separate: folders of those that stay beside the graph, by name.

    Raises UserError if the exporter does not support the architecture, if a text cannot be read or
    is too short, and if the result does not match the reference: another computation, values beyond
    the range of float16, or a probe that is tokenized differently.
    """
    start = time.perf_counter()
    return_freed_memory()
    supported_models.check(weights, exporter)
    size_limits.check(weights)
    texts = text.read(calibration.held_out_path, "calibration.held_out")
    calibration_texts = text.read_for_target(calibration, target)
    if adapter is not None and exporter is ExporterName.builder:
        raise UserError(
            "the model has an adapter, and exporter=builder reads the weights itself, so that no "
            "adapter can be merged into them: choose exporter=optimum"
        )
    reference = reference_model.load(weights)
    if exporter is ExporterName.builder:
        builder_support.check_settings(reference.model)
    tokenization_probes = tokenization.build_probes(reference.tokenizer)
    mismatches = tokenization.check(tokenization_probes, weights)
    merged = LoraAdapter.read(adapter, str(adapter)) if adapter is not None else None
    adapters = {name: LoraAdapter.read(each, name) for name, each in separate.items()}
    for each in adapters.values():
        each.check_model(reference.model)
    checkpoint = CheckpointTensors.for_model(weights, reference.model, merged)
    prompts = build_prompts(reference.tokenizer)
    windows = held_out.build_windows(reference, texts)
    calibration_windows = (
        _build_calibration_windows(reference, calibration_texts, calibration.tokens)
        if target.is_calibrated
        else []
    )
    values = LargestValue() if target.precision is Precision.fp16 else None
    with held_out.compute_reference(
        reference, checkpoint, prompts, windows, values.observe if values else None
    ) as (expected, expected_of_windows):
        if values:
            values.check(target.name)
        exported, exact, exact_with = None, None, {}
        if exporter is ExporterName.builder:
            _write_by_builder(weights, folder, target)
        else:
            with nullcontext(scratch) if scratch else TemporaryDirectory() as kept_work:
                exported = optimum_export.export(
                    weights,
                    reference,
                    checkpoint,
                    folder,
                    target,
                    calibration_windows,
                    Path(kept_work),
                    adapters,
                )
            exact = _prove(exported, reference, checkpoint, folder, target, prompts, expected)
            exact_with = {
                each.name: exact_proof.prove(exported, reference, folder, target, prompts, each)
                for each in exported.adapters
            }
        ignored_settings = generation_config.write(weights, folder)
        tokenizer_files.copy(weights, folder)
        note = genai_tokenizer.describe_differences(folder, tokenization_probes)
        if note is not None:
            messages.info(note)
        graph = graph_variants.all_positions(folder) if exported else nullcontext(GRAPH_FILE)
        calls = [Call("logits", [ids]) for ids in (*prompts, *windows)]
        with graph as name, closing(run_calls(folder, name, calls)) as logits:
            reached = parity.measure(
                expected, islice(logits, len(prompts)), target.name, mismatches
            )
            _check_parity(reached, expected, target)
            kept = fidelity.measure(windows, expected_of_windows, logits, target.name)
        kept_by_rtn = None
        if exported and target.is_calibrated:
            with _plainly_rounded(exported, checkpoint, folder, target) as plain:
                kept_by_rtn = folder_fidelity.measure(
                    plain, windows, expected_of_windows, "plain rounding"
                )
    ConversionRecord(
        parity=reached,
        fidelity=kept,
        rtn_fidelity=kept_by_rtn,
        exact_max_abs_diff=exact,
        passes=exported.passes if exported else (),
        seconds=time.perf_counter() - start,
        peak_rss_mb=None if (peak := peak_rss_bytes()) is None else peak / 1e6,
        onnx_size_mb=sum(file.stat().st_size for file in folder.glob(f"{GRAPH_FILE}*")) / 1e6,
        ignored_settings=ignored_settings,
        notes=() if note is None else (note,),
        adapters=exact_with,
    ).write(folder)


def _build_calibration_windows(
    reference: ReferenceModel, texts: Sequence[str], tokens: int | None
) -> list[list[int]]:
    if tokens is None:
        tokens = 3072 if reference_model.is_large(reference.model) else 8192
    length = held_out.longest_window(reference.model.config, _CALIBRATION_WINDOW)
    return text.windows(reference.tokenizer, texts, tokens, length)


def _prove(
    exported: ExportedModel,
    reference: ReferenceModel,
    checkpoint: CheckpointTensors,
    folder: Path,
    target: Target,
    prompts: Sequence[Sequence[int]],
    expected: Sequence[Logits],
) -> float:
    """Return the largest difference of the exact graph; prove the scaled weights equal before."""
    if exported.tensors is not checkpoint:
        exact_proof.prove_preparation(exported, reference, prompts, expected)
    return exact_proof.prove(exported, reference, folder, target, prompts)


@contextmanager
def _plainly_rounded(
    exported: ExportedModel, checkpoint: CheckpointTensors, folder: Path, target: Target
) -> Iterator[Path]:
    """Yield a folder with the graph in which the weights are rounded to nearest."""
    with TemporaryDirectory(dir=folder) as plain:
        shutil.copy(folder / genai_builder.CONFIG_FILE, plain)
        optimum_export.write_plainly_rounded(exported, checkpoint, Path(plain), target)
        yield Path(plain)


def _write_by_builder(weights: Path, folder: Path, target: Target) -> None:
    with progress_bars.spinner(f"the GenAI model builder writes {target.name}"):
        genai_builder.write_graph(weights, folder, target)
    if target.quantization is not None:
        messages.warning(
            "exporter=builder: the loss is measured, but the graph is not proven, because its "
            "faults cannot be separated from the effects of quantization"
        )


def _check_parity(reached: Parity, expected: Sequence[Logits], target: Target) -> None:
    """Raise UserError for fp32 logits above the tolerance."""
    if target.precision is Precision.fp32 and target.quantization is None:
        largest = float(max(np.abs(logits).max() for logits in expected))
        exact_proof.check_tolerance(reached.max_abs_diff, largest=largest)
