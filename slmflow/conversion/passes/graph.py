"""Reading and changing the exported graph; what all passes share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

CONTRIB = "com.microsoft"

# In `ir.Value.meta` of the graph's inputs that are parameters of the model: their `Source`.
WEIGHT = "weight"


@dataclass(frozen=True)
class WeightSource:
    """What a weight of the graph is: a tensor of the checkpoint, or its rows `start` to `stop`."""

    name: str
    start: int = 0
    stop: int | None = None


@dataclass(frozen=True)
class PassReport:
    """What a pass did: `matched` of the `candidates` it knew of; `reason`: why not all of them."""

    name: str
    matched: int
    candidates: int
    reason: str = ""


def node_prefix(path: str) -> str:
    """Return how names of a module's nodes begin: model.layers.0.mlp -> /model/layers.0/mlp/."""
    parts: list[str] = []
    for part in path.split("."):
        if part.isdigit():
            parts[-1] += f".{part}"
        else:
            parts.append(part)
    return "/" + "/".join(parts) + "/"


def module_path(node: ir.Node) -> str:
    """Return the path of the module that a node belongs to, by its name."""
    return (node.name or "").strip("/").rpartition("/")[0].replace("/", ".")


def nodes_by_module(graph: ir.Graph, paths: Iterable[str]) -> dict[str, list[ir.Node]]:
    """Return the nodes of each module path, in the graph's order; nodes of its parts included."""
    found: dict[str, list[ir.Node]] = {path: [] for path in paths}
    scopes = {node_prefix(path): nodes for path, nodes in found.items()}
    for node in graph:
        name = node.name or ""
        for end in (position + 1 for position, letter in enumerate(name) if letter == "/"):
            if (nodes := scopes.get(name[:end])) is not None:
                nodes.append(node)
    return found


def constant_value(value: ir.Value | None) -> NDArray[np.generic] | None:
    """Return the value of a constant, or None for what is computed or given."""
    if value is None or (tensor := ir.convenience.get_const_tensor(value)) is None:
        return None
    array: NDArray[np.generic] = tensor.numpy()
    return array


def is_weight(value: ir.Value | None) -> bool:
    """Tell whether a value is a parameter of the model: in a trace these are marked inputs."""
    return value is not None and WEIGHT in value.meta


def weight_source(weight: ir.Value) -> WeightSource:
    """Return what a weight of the graph is."""
    source: WeightSource = weight.meta[WEIGHT]
    return source


def matmul_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [N, K] of a MatMul with its transpose, None for other nodes."""
    given = node.inputs[1] if node.op_type == "MatMul" else None
    transpose = given.producer() if given is not None else None
    if transpose is None or transpose.op_type != "Transpose":
        return None
    weight = transpose.inputs[0]
    return weight if weight is not None and _is_matrix(weight) else None


def embedding_weight(node: ir.Node) -> ir.Value | None:
    """Return the weight [vocabulary, size] of an embedding, None for other nodes."""
    weight = node.inputs[0] if node.op_type == "Gather" else None
    return weight if weight is not None and _is_matrix(weight) else None


def _is_matrix(value: ir.Value) -> bool:
    return is_weight(value) and len(weight_shape(value)) == 2


def weights_in_use(model: ir.Model) -> frozenset[str]:
    """Return which tensors of the checkpoint are read by a node, by their names."""
    return frozenset(
        weight_source(value).name
        for value in model.graph.inputs
        if is_weight(value) and value.uses()
    )


def static_values(graph: ir.Graph) -> frozenset[ir.Value]:
    """Return what can be computed before the model runs: from weights and constants alone."""
    fixed = {value for value in graph.inputs if is_weight(value)}
    fixed.update(graph.initializers.values())
    for node in graph:
        if all(value is None or value in fixed for value in node.inputs):
            fixed.update(node.outputs)
    return frozenset(fixed)


def value_name(value: ir.Value) -> str:
    """Return the name of a value: all values of a graph that was loaded have one."""
    return value.name or ""


def weight_shape(value: ir.Value) -> tuple[int, ...]:
    """Return the shape of a weight, which the trace always knows."""
    return tuple(value.shape.numpy()) if value.shape is not None else ()


def consumers(value: ir.Value) -> list[ir.Node]:
    """Return the nodes that read a value."""
    return [use.node for use in value.uses()]


def rank(value: ir.Value | None) -> int | None:
    """Return the number of a value's dimensions, None where it is not known."""
    return len(value.shape) if value is not None and value.shape is not None else None


def remove_unused(model: ir.Model) -> None:
    """Remove nodes and inputs that no output depends on, but for parameters' inputs."""
    RemoveUnusedNodesPass()(model)
    for value in [v for v in model.graph.inputs if not v.uses() and not is_weight(v)]:
        model.graph.inputs.remove(value)


def clean_up(model: ir.Model) -> None:
    """Bring a changed graph in order: what nothing depends on goes, producers come first."""
    remove_unused(model)
    model.graph.sort()


class GraphEditor:
    """Adds nodes, anywhere: `finish` sorts them."""

    def __init__(self, model: ir.Model) -> None:
        """Add to the graph of `model`."""
        self._graph = model.graph
        self._opsets = model.graph.opset_imports
        self._inputs = {value.name: value for value in model.graph.inputs}

    def input(self, name: str) -> ir.Value:
        """Return the graph's input of this name."""
        return self._inputs[name]

    def initializer(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Return the initializer of this name, made from the array if there is none yet."""
        if name not in self._graph.initializers:
            tensor = ir.tensor(array, name=name)
            kind = ir.TensorType(tensor.dtype)
            value = ir.Value(name=name, type=kind, const_value=tensor)
            value.shape = ir.Shape(array.shape)
            self._graph.register_initializer(value)
        return self._graph.initializers[name]

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return the constant int64 [len(numbers)]."""
        name = "integers." + ".".join(map(str, numbers))
        return self.initializer(name, np.array(numbers, dtype=np.int64))

    def weight_rows(self, weight: ir.Value, start: int, stop: int) -> ir.Value:
        """Return rows of a weight [N, K], as a weight of the graph."""
        source = weight_source(weight)
        name = f"{source.name}.{start}"
        value = ir.Value(
            name=name, type=weight.type, shape=ir.Shape([stop - start, weight_shape(weight)[1]])
        )
        value.meta[WEIGHT] = WeightSource(source.name, source.start + start, source.start + stop)
        self._graph.inputs.append(value)
        return value

    def cast(self, value: ir.Value, kind: ir.DataType) -> ir.Value:
        """Return the value as another type."""
        return self.add("Cast", [value], f"{value.name}/{kind.name.lower()}", to=kind.value)

    def add(
        self, operator: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any
    ) -> ir.Value:
        """Add a node with one result, which bears its name; `domain` is an attribute here."""
        return self.add_multi_output(operator, inputs, name, 1, **attributes)[0]

    def add_multi_output(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        results: int,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Add a node with several results: NAME, NAME.1 and so on."""
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=results, name=name)
        for position, value in enumerate(node.outputs):
            value.name = f"{name}.{position}" if position else name
        if domain:
            self._opsets.setdefault(domain, 1)
        self._graph.append(node)
        return node.outputs

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Let everything that reads `old`, the graph's outputs too, read `new` of that type."""
        new.type, new.shape = old.type, old.shape
        if old.is_graph_output():
            old.name, new.name = f"{old.name}.replaced", old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)

    def output(self, name: str) -> ir.Value:
        """Return the graph's output of this name."""
        return next(value for value in self._graph.outputs if value.name == name)

    def scope(self, path: str) -> str:
        """Return how names of a module's nodes begin."""
        return node_prefix(path)
