"""The last-position pass."""

import onnx_ir as ir
import pytest

from slmflow.conversion.passes import attention, constant_folding, last_position
from slmflow.conversion.passes.graph import PassReport
from tests.conversion.passes import traced_graphs


def _positions(model: ir.Model) -> object:
    logits = next(value for value in model.graph.outputs if value.name == "logits")
    assert logits.shape is not None
    return logits.shape[1]


@pytest.mark.parametrize("name", ["phi3", "llama", "gemma2"])
def test_attention_and_residual_pass_the_last_position(name: str) -> None:
    model, spec = traced_graphs.exported(name)
    attention.fuse(model, spec)
    constant_folding.fold(model, spec)
    before = traced_graphs.count_operators(model)

    report = last_position.restrict(model, spec)

    gathers = [node for node in model.graph if node.op_type == "GatherND"]
    assert report == PassReport("last_position", 1, 1)
    assert _positions(model) == 1
    assert {node.inputs[0].producer().op_type for node in gathers} >= {"GroupQueryAttention"}
    assert len(gathers) == 2

    last_position.undo(model)

    assert _positions(model) == "sequence_length"
    assert traced_graphs.count_operators(model)["GatherND"] == 0
    assert traced_graphs.count_operators(model)["MatMul"] == before["MatMul"]


def test_exported_attention_restricts_the_lm_head_only() -> None:
    model, spec = traced_graphs.folded("granite")

    report = last_position.restrict(model, spec)

    assert report == PassReport("last_position", 1, 1, "the last layer runs on all positions")
    assert traced_graphs.count_operators(model)["GatherND"] == 1


def test_head_that_mixes_positions_is_left_alone() -> None:
    model, spec = traced_graphs.folded("granite")
    head = next(node for node in model.graph if node.name == "/lm_head/MatMul")
    for use in list(head.outputs[0].uses()):
        use.node.op_type = "Softmax"
    before = traced_graphs.count_operators(model)

    report = last_position.restrict(model, spec)

    reason = "the logits of a position depend on other positions"
    assert report == PassReport("last_position", 0, 1, reason)
    assert traced_graphs.count_operators(model) == before
