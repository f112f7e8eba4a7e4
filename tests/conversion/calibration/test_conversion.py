"""Whole conversions with algorithm=gptq, proven and measured on held-out text."""

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from slmflow.conversion.onnx_files import GRAPH_FILE
from tests.conversion import conversions
from tests.conversion.architectures import BUNDLED
from tests.conversion.calibration import random_models

GPTQ = ("target.quantization.algorithm=gptq", "calibration.tokens=2048")


@pytest.mark.long
def test_a_budget_keeps_more_of_the_model_than_plain_rounding(tmp_path: Path) -> None:
    """In fewer bytes than plain rounding takes."""
    plain = conversions.convert(BUNDLED, tmp_path / "plain", "cpu_int4_rtn")
    budget = f"target.quantization.budget_mb={plain.onnx_size_mb}"

    record = conversions.convert(BUNDLED, tmp_path / "gptq", "cpu_int4", *GPTQ, budget)

    assert record.onnx_size_mb <= plain.onnx_size_mb
    assert record.exact_max_abs_diff is not None and record.exact_max_abs_diff < 1e-4
    assert record.fidelity.mean_kl_high < plain.fidelity.mean_kl_low


def test_a_tied_embedding_is_converted_within_the_budget(tmp_path: Path) -> None:
    random_models.load("llama", tmp_path / "llama")
    bits = "target.quantization.bits_per_weight=5.2"

    record = conversions.convert(tmp_path / "llama", tmp_path / "gptq", "cpu_int4", *GPTQ, bits)

    assert record.exact_max_abs_diff is not None and record.exact_max_abs_diff < 1e-4
    assert record.rtn_fidelity is not None
    assert record.fidelity.mean_kl < record.rtn_fidelity.mean_kl


@pytest.mark.long
def test_fp16_graphs_have_float16_scales(tmp_path: Path) -> None:
    conversions.convert(BUNDLED, tmp_path / "gptq", "cuda_int4", *GPTQ)

    graph = onnx.load(tmp_path / "gptq" / GRAPH_FILE, load_external_data=False).graph
    scales = {i.name: i.data_type for i in graph.initializer if i.name.endswith("_scales")}
    products = [node for node in graph.node if node.op_type == "MatMulNBits"]
    assert len(scales) == len(products) > 0
    assert set(scales.values()) == {TensorProto.FLOAT16}
    assert not [i.name for i in graph.initializer if i.name.endswith("_scale_codes")]
