"""Calibrate the quantized weights of a graph: their schemes within the budget, and their values."""

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx_ir as ir

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import Quantization
from slmflow.console import messages
from slmflow.conversion.calibration import allocation
from slmflow.conversion.calibration.calibrate import Calibration, Quantizable, Windows
from slmflow.conversion.calibration.preparation import PreparedTensors
from slmflow.conversion.calibration.workspace import Workspace
from slmflow.conversion.onnx_files import planned_size
from slmflow.conversion.passes.graph import is_weight, value_name, weight_shape
from slmflow.conversion.quantization.blockwise import QuantizedWeight
from slmflow.conversion.quantization.lowering import lower
from slmflow.conversion.quantization.schemes import Scheme


def quantize(
    graph: ir.Model,
    chosen: Mapping[str, Scheme],
    quantization: Quantization,
    model: Any,
    checkpoint: CheckpointTensors,
    windows: Windows,
    folder: Path,
    *,
    fp16: bool,
) -> tuple[dict[str, Scheme], Mapping[str, QuantizedWeight], PreparedTensors]:
    """Return the schemes, the quantized weights by name, and the tensors of all others.

    Weights and tensors are read on access.

    graph: rewritten, its weights still inputs; chosen: schemes without a budget; model: that of a
    `ReferenceModel`; windows: token ids to calibrate on; folder: keeps what is done if the process
    is killed, and must hold nothing of another calibration.
    """
    shapes = {
        value_name(value): weight_shape(value)
        for value in graph.graph.inputs
        if is_weight(value) and value_name(value) in chosen
    }
    # Those of `eight_bit`.
    fixed = frozenset(n for n, scheme in chosen.items() if scheme.bits != quantization.bits)
    budget = _budget(graph, chosen, shapes, quantization, checkpoint, fp16=fp16)
    calibration = Calibration(model, checkpoint, windows, Workspace(folder))
    weights = Quantizable(chosen, shapes, fixed, quantization.smallest_block)
    schemes = calibration.choose_schemes(weights, budget)
    if budget is not None:
        _report(schemes, shapes, budget, quantization)
    quantized = calibration.quantize(dataclasses.replace(weights, schemes=schemes))
    return schemes, quantized, calibration.tensors


def _budget(
    graph: ir.Model,
    chosen: Mapping[str, Scheme],
    shapes: Mapping[str, tuple[int, ...]],
    quantization: Quantization,
    checkpoint: CheckpointTensors,
    *,
    fp16: bool,
) -> int | None:
    """Return the bytes that the quantized weights may take, None without a budget."""
    if quantization.budget_mb is None:
        if (bits := quantization.average_bits) is None:
            return None
        return int(bits * sum(rows * columns for rows, columns in shapes.values()) / 8)
    planned = graph.clone()
    lower(planned, checkpoint, chosen, {}, fp16=fp16)
    return int(quantization.budget_mb * 1e6) - planned_size(planned) + _size(chosen, shapes)


def _size(schemes: Mapping[str, Scheme], shapes: Mapping[str, tuple[int, ...]]) -> int:
    return sum(allocation.stored_bytes(shapes[name], scheme) for name, scheme in schemes.items())


def _report(
    schemes: Mapping[str, Scheme],
    shapes: Mapping[str, tuple[int, ...]],
    budget: int,
    quantization: Quantization,
) -> None:
    """Show how the weights were divided, and warn of a budget that is too small."""
    weights = {name: rows * columns for name, (rows, columns) in shapes.items()}
    eight = sum(weights[name] for name, scheme in schemes.items() if scheme.bits == 8)
    size, total = _size(schemes, shapes), sum(weights.values())
    messages.info(
        f"mixed precision: {eight / total:.0%} of the quantized weights at 8 bits, "
        f"{8 * size / total:.2f} bits per weight with scales"
    )
    is_explicit = quantization.budget_mb or quantization.bits_per_weight
    if size > budget and is_explicit:
        key = "bits_per_weight" if quantization.budget_mb is None else "budget_mb"
        value = getattr(quantization, key)
        # Rounded up, or it would be too small again.
        smallest = (
            math.ceil(10 * value + (size - budget) / 1e5) / 10
            if key == "budget_mb"
            else math.ceil(8000 * size / total) / 1000
        )
        messages.warning(
            f"target.quantization.{key}={value}: too small for {quantization.bits} bits in blocks "
            f"of {quantization.block_size}; the smallest possible is {smallest}, which is used. "
            "For a smaller model set a larger block_size"
        )
