"""The projection pass."""

import pytest

from slmflow.conversion.passes import attention, constant_folding, projections
from slmflow.conversion.passes.graph import PassReport, is_weight, weight_source
from slmflow.conversion.passes.graph_editor import GraphEditor
from tests.conversion.passes import traced_graphs


def test_gate_and_up_become_two_matmuls() -> None:
    model, spec = traced_graphs.exported("phi3")
    attention.fuse(model, spec)
    constant_folding.fold(model, spec)
    before = traced_graphs.count_operators(model)

    report = projections.split(model, spec)

    after = traced_graphs.count_operators(model)
    sources = [weight_source(value) for value in model.graph.inputs if is_weight(value)]
    rows = [
        (s.start, s.stop) for s in sources if s.name == "model.layers.1.mlp.gate_up_proj.weight"
    ]
    assert report == PassReport("projections", 2, 2)
    assert before["Slice"] - after["Slice"] == 4
    assert after["MatMul"] - before["MatMul"] == 2
    assert rows[-2][1] == rows[-1][0]
    assert rows[-1][1] == 2 * rows[-2][1]


def test_projection_with_another_reader_stays_packed() -> None:
    model, spec = traced_graphs.exported("phi3")
    attention.fuse(model, spec)
    constant_folding.fold(model, spec)
    packed = next(
        node for node in model.graph if node.name == "/model/layers.0/mlp/gate_up_proj/MatMul"
    )
    editor = GraphEditor(model)
    reader = editor.add("Identity", [packed.outputs[0]], "other")
    editor.replace(editor.output("logits"), reader)

    assert projections.split(model, spec) == PassReport("projections", 1, 1)
    assert packed in list(model.graph)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_separate_projections_are_left_alone(name: str) -> None:
    model, spec = traced_graphs.folded(name)
    before = traced_graphs.count_operators(model)

    assert projections.split(model, spec) == PassReport("projections", 0, 0)
    assert traced_graphs.count_operators(model) == before
