"""The pass that keeps each row's last position alone."""

import onnx_ir as ir
import pytest

from slmflow.conversion.passes import attention, last_position
from slmflow.conversion.passes.graph import Matched
from tests.conversion.passes import traced


def _positions(model: ir.Model) -> object:
    logits = next(value for value in model.graph.outputs if value.name == "logits")
    assert logits.shape is not None
    return logits.shape[1]


@pytest.mark.parametrize("name", ["phi3", "llama", "gemma2"])
def test_attention_and_residual_go_on_with_the_last_position(name: str) -> None:
    model, known = traced.graph(name)
    attention.fuse(model, known)
    traced.fold(model, known)
    before = traced.operators(model)

    matched = last_position.keep(model, known)

    kept = [node for node in model.graph if node.op_type == "GatherND"]
    assert matched == Matched("last_position", 1, 1)
    assert _positions(model) == 1
    assert {node.inputs[0].producer().op_type for node in kept} >= {"GroupQueryAttention"}
    assert len(kept) == 2

    last_position.undo(model)

    assert _positions(model) == "sequence_length"
    assert traced.operators(model)["GatherND"] == 0
    assert traced.operators(model)["MatMul"] == before["MatMul"]


def test_with_the_exported_attention_the_lm_head_alone_is_spared() -> None:
    model, known = traced.folded("granite")

    matched = last_position.keep(model, known)

    assert matched == Matched("last_position", 1, 1, "the last layer runs on all positions")
    assert traced.operators(model)["GatherND"] == 1


def test_what_mixes_positions_is_left_alone() -> None:
    model, known = traced.folded("granite")
    head = next(node for node in model.graph if node.name == "/lm_head/MatMul")
    for use in list(head.outputs[0].uses()):
        use.node.op_type = "Softmax"
    before = traced.operators(model)

    matched = last_position.keep(model, known)

    reason = "the logits are not computed position by position"
    assert matched == Matched("last_position", 0, 1, reason)
    assert traced.operators(model) == before
