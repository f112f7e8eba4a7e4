"""The norm pass and the residual pass alone."""

import numpy as np
import pytest

from slmflow.conversion.passes import norms, residual
from slmflow.conversion.passes.graph import Builder, Matched, constant
from tests.conversion.passes import traced


@pytest.mark.parametrize(("name", "expected"), [("llama", 5), ("gemma", 5), ("gemma2", 9)])
def test_every_rms_norm_is_one_node(name: str, expected: int) -> None:
    model, known = traced.folded(name)

    matched = norms.fuse(model, known)

    made = [node for node in model.graph if node.op_type == "SimplifiedLayerNormalization"]
    assert matched == Matched("norms", expected, expected)
    assert len(made) == expected
    assert made[0].attributes["epsilon"].as_float() == pytest.approx(1e-6)
    assert not traced.operators(model)["Pow"]


def test_a_norm_computed_in_another_way_is_left_alone() -> None:
    """With the cube, one norm is no root mean square; the others are."""
    model, known = traced.folded("llama")
    power = next(
        node
        for node in model.graph
        if node.op_type == "Pow" and "layers.1/input_layernorm" in (node.name or "")
    )
    assert constant(power.inputs[1]) == 2
    power.replace_input_with(1, Builder(model).initializer("three", np.array(3, np.float32)))

    matched = norms.fuse(model, known)

    reason = "model.layers.1.input_layernorm is computed in another way"
    assert matched == Matched("norms", 4, 5, reason)
    assert traced.operators(model)["Pow"] == 1


@pytest.mark.parametrize("name", ["olmo", "phi"])
def test_layer_norms_are_left_alone(name: str) -> None:
    model, known = traced.folded(name)
    before = traced.operators(model)

    assert norms.fuse(model, known) == Matched("norms", 0, 0)
    assert residual.fuse(model, known) == Matched("residual", 0, 0)
    assert traced.operators(model) == before


@pytest.mark.parametrize(("name", "expected"), [("llama", 4), ("gemma2", 4)])
def test_sums_are_fused_with_the_norms_that_read_them(name: str, expected: int) -> None:
    """Gemma 2 norms what a layer gives, too, before the sum: no candidates."""
    model, known = traced.folded(name)
    norms.fuse(model, known)
    before = traced.operators(model)

    matched = residual.fuse(model, known)

    after = traced.operators(model)
    assert matched == Matched("residual", expected, expected)
    assert after["SkipSimplifiedLayerNormalization"] == expected
    assert before["Add"] - after["Add"] == expected
    left = before["SimplifiedLayerNormalization"] - expected
    assert after["SimplifiedLayerNormalization"] == left
