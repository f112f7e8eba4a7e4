"""The pass over packed projections alone."""

import pytest

from slmflow.conversion.passes import attention, projections
from slmflow.conversion.passes.graph import Builder, Matched, is_weight, source_of
from tests.conversion.passes import traced


def test_gate_and_up_are_multiplied_apart() -> None:
    model, known = traced.graph("phi3")
    attention.fuse(model, known)
    traced.fold(model, known)
    before = traced.operators(model)

    matched = projections.split(model, known)

    after = traced.operators(model)
    sources = [source_of(value) for value in model.graph.inputs if is_weight(value)]
    rows = [
        (s.start, s.stop) for s in sources if s.name == "model.layers.1.mlp.gate_up_proj.weight"
    ]
    assert matched == Matched("projections", 2, 2)
    assert before["Slice"] - after["Slice"] == 4
    assert after["MatMul"] - before["MatMul"] == 2
    assert rows[-2][1] == rows[-1][0]
    assert rows[-1][1] == 2 * rows[-2][1]


def test_what_something_else_reads_too_stays_packed() -> None:
    model, known = traced.graph("phi3")
    attention.fuse(model, known)
    traced.fold(model, known)
    packed = next(
        node for node in model.graph if node.name == "/model/layers.0/mlp/gate_up_proj/MatMul"
    )
    build = Builder(model)
    build.replace(build.given_back("logits"), build.add("Identity", [packed.outputs[0]], "other"))

    assert projections.split(model, known) == Matched("projections", 1, 1)
    assert packed in list(model.graph)


@pytest.mark.parametrize("name", ["llama", "gemma"])
def test_separate_projections_are_left_alone(name: str) -> None:
    model, known = traced.folded(name)
    before = traced.operators(model)

    assert projections.split(model, known) == Matched("projections", 0, 0)
    assert traced.operators(model) == before
