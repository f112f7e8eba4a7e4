"""The norm pass and the residual pass."""

import numpy as np
import pytest

from slmflow.conversion.passes import norms, residual
from slmflow.conversion.passes.graph import PassReport, constant_value
from slmflow.conversion.passes.graph_editor import GraphEditor
from tests.conversion.passes import traced_graphs


@pytest.mark.parametrize(("name", "expected"), [("llama", 5), ("gemma", 5), ("gemma2", 9)])
def test_every_rms_norm_becomes_one_node(name: str, expected: int) -> None:
    model, spec = traced_graphs.folded(name)

    report = norms.fuse(model, spec)

    fused = [node for node in model.graph if node.op_type == "SimplifiedLayerNormalization"]
    assert report == PassReport("norms", expected, expected)
    assert len(fused) == expected
    assert fused[0].attributes["epsilon"].as_float() == pytest.approx(1e-6)
    assert not traced_graphs.count_operators(model)["Pow"]


def test_norm_of_cubes_is_left_alone() -> None:
    model, spec = traced_graphs.folded("llama")
    power = next(
        node
        for node in model.graph
        if node.op_type == "Pow" and "layers.1/input_layernorm" in (node.name or "")
    )
    assert constant_value(power.inputs[1]) == 2
    power.replace_input_with(1, GraphEditor(model).initializer("three", np.array(3, np.float32)))

    report = norms.fuse(model, spec)

    reason = "model.layers.1.input_layernorm is not computed as an RMS norm"
    assert report == PassReport("norms", 4, 5, reason)
    assert traced_graphs.count_operators(model)["Pow"] == 1


@pytest.mark.parametrize("name", ["olmo", "phi"])
def test_layer_norms_are_left_alone(name: str) -> None:
    model, spec = traced_graphs.folded(name)
    before = traced_graphs.count_operators(model)

    assert norms.fuse(model, spec) == PassReport("norms", 0, 0)
    assert residual.fuse(model, spec) == PassReport("residual", 0, 0)
    assert traced_graphs.count_operators(model) == before


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_residual_sums_are_fused_with_their_norms(name: str) -> None:
    """Gemma 2 also norms the output of a layer before the sum: these norms stay."""
    model, spec = traced_graphs.folded(name)
    norms.fuse(model, spec)
    before = traced_graphs.count_operators(model)

    report = residual.fuse(model, spec)

    after = traced_graphs.count_operators(model)
    assert report == PassReport("residual", 4, 4)
    assert after["SkipSimplifiedLayerNormalization"] == 4
    assert before["Add"] - after["Add"] == 4
    remaining = before["SimplifiedLayerNormalization"] - 4
    assert after["SimplifiedLayerNormalization"] == remaining
