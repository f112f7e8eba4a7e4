"""Queries on the exported graph, and the types that all passes share."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

# Key in `ir.Value.meta` under which a graph input that is a model parameter has its `WeightSource`.
WEIGHT = "weight"


@dataclass(frozen=True)
class WeightSource:
    """Source of a weight in the graph: a checkpoint tensor, or its rows `start` to `stop`."""

    name: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class PassReport:
    """Outcome of a pass: it replaced `matched` of `candidates`; `reason`: why not all of them."""

    name: str
    matched: int
    candidates: int
    reason: str = ""


def node_prefix(path: str) -> str:
    """Return the prefix of a module's node names: model.layers.0.mlp -> /model/layers.0/mlp/."""
    parts: list[str] = []
    for part in path.split("."):
        if part.isdigit():
            parts[-1] += f".{part}"
        else:
            parts.append(part)
    return "/" + "/".join(parts) + "/"


def module_path(node: ir.Node) -> str:
    """Return the path of the module a node belongs to, derived from the node's name."""
    return (node.name or "").strip("/").rpartition("/")[0].replace("/", ".")


def nodes_by_module(graph: ir.Graph, paths: Iterable[str]) -> dict[str, list[ir.Node]]:
    """Return the nodes of each module path, submodules included, in graph order."""
    nodes_of: dict[str, list[ir.Node]] = {path: [] for path in paths}
    by_prefix = {node_prefix(path): nodes for path, nodes in nodes_of.items()}
    for node in graph:
        name = node.name or ""
        for end in (index + 1 for index, character in enumerate(name) if character == "/"):
            if (nodes := by_prefix.get(name[:end])) is not None:
                nodes.append(node)
    return nodes_of


def constant_value(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the array of a constant, None for any other value."""
    if value is None or (tensor := ir.convenience.get_const_tensor(value)) is None:
        return None
    array: NDArray[np.generic] = tensor.numpy()
    return array


def is_weight(value: ir.Value | None) -> bool:
    """Return whether a value is a model parameter, which the trace marks among the inputs."""
    return value is not None and WEIGHT in value.meta


def weight_source(weight: ir.Value) -> WeightSource:
    """Return the checkpoint tensor, or rows of one, that a weight stands for."""
    source: WeightSource = weight.meta[WEIGHT]
    return source


def weight_shape(weight: ir.Value) -> tuple[int, ...]:
    """Return the shape of a weight; the trace knows all of them."""
    return tuple(weight.shape.numpy()) if weight.shape is not None else ()


def matmul_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [N, K] that a MatMul reads transposed, None for other nodes."""
    factor = node.inputs[1] if node.op_type == "MatMul" else None
    transpose = factor.producer() if factor is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return None
    return _weight_matrix(transpose.inputs[0])


def embedding_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [vocabulary, size] that a Gather reads, None for other nodes."""
    return _weight_matrix(node.inputs[0]) if node.op_type == "Gather" else None


def _weight_matrix(value: ir.Value | None) -> ir.Value | None:
    is_matrix = value is not None and is_weight(value) and len(weight_shape(value)) == 2
    return value if is_matrix else None


def weights_in_use(model: ir.Model) -> frozenset[str]:
    """Return the names of the checkpoint tensors that a node reads."""
    return frozenset(
        weight_source(value).name
        for value in model.graph.inputs
        if is_weight(value) and value.uses()
    )


def static_values(graph: ir.Graph) -> frozenset[ir.Value]:
    """Return the values that depend on weights and constants alone."""
    static = {value for value in graph.inputs if is_weight(value)}
    static.update(graph.initializers.values())
    for node in graph:
        if all(value is None or value in static for value in node.inputs):
            static.update(node.outputs)
    return frozenset(static)


def value_name(value: ir.Value) -> str:
    """Return the name of a value; in a loaded graph every value has one."""
    return value.name or ""


def consumers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value."""
    return [use.node for use in value.uses()]


def rank(value: ir.Value | None) -> int | None:
    """Return the number of a value's dimensions, None if unknown."""
    return len(value.shape) if value is not None and value.shape is not None else None
