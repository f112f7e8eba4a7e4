"""Bring a full-precision ONNX graph to the target's precision, with ONNX Runtime's own tools."""

from pathlib import Path

import onnx
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
from onnxruntime.transformers.float16 import convert_float_to_float16

from steps.common.config import Precision, Quantization, Target
from steps.common.console import quiet
from steps.convert.export import GRAPH


def to_target(folder: Path, target: Target) -> None:
    """Rewrite `folder/model.onnx` in the target's precision, its weights quantized if it says so.

    Weights go to `model.onnx.data`, one file of external data.
    """
    model = onnx.load(folder / GRAPH)
    if target.precision is Precision.fp16:
        model = convert_float_to_float16(model, disable_shape_infer=True)
    if target.quantization is not None:
        model = _quantize(model, target.quantization)
    for file in folder.glob(f"{GRAPH}*"):
        file.unlink()
    onnx.save_model(
        model,
        folder / GRAPH,
        save_as_external_data=True,
        location=f"{GRAPH}.data",
    )


def _quantize(model: onnx.ModelProto, quantization: Quantization) -> onnx.ModelProto:
    """Quantize the weights of every MatMul, block-wise, by rounding to nearest."""
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=quantization.bits,
        block_size=quantization.block_size,
        is_symmetric=quantization.symmetric,
        accuracy_level=quantization.accuracy_level,
    )
    with quiet():  # it logs a line for every node of the graph
        quantizer.process()
    quantized: onnx.ModelProto = quantizer.model.model
    return quantized
