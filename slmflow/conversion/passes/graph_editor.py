"""Changes to the exported graph: new nodes, constants and weights, replaced values, clean-up."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from slmflow.conversion.passes.graph import (
    WEIGHT,
    WeightSource,
    is_weight,
    weight_shape,
    weight_source,
)

# Domain of ONNX Runtime's own operators.
CONTRIB = "com.microsoft"


class GraphEditor:
    """Adds nodes in any order; `clean_up` sorts them."""

    def __init__(self, model: ir.Model) -> None:
        """Edit the graph of `model` in place."""
        self._graph = model.graph
        self._opsets = model.graph.opset_imports
        self._inputs = {value.name: value for value in model.graph.inputs}

    def input(self, name: str) -> ir.Value:
        """Return a graph input by name."""
        return self._inputs[name]

    def output(self, name: str) -> ir.Value:
        """Return a graph output by name."""
        return next(value for value in self._graph.outputs if value.name == name)

    def initializer(self, name: str, array: NDArray[Any]) -> ir.Value:
        """Return the initializer of this name; create it from the array if there is none."""
        if name not in self._graph.initializers:
            tensor = ir.tensor(array, name=name)
            value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), const_value=tensor)
            value.shape = ir.Shape(array.shape)
            self._graph.register_initializer(value)
        return self._graph.initializers[name]

    def integers(self, numbers: Sequence[int]) -> ir.Value:
        """Return a constant int64 [len(numbers)]."""
        name = "integers." + ".".join(map(str, numbers))
        return self.initializer(name, np.array(numbers, dtype=np.int64))

    def weight_rows(self, weight: ir.Value, start: int, stop: int) -> ir.Value:
        """Add rows of a weight [N, K] as a weight [stop - start, K] of the graph."""
        source = weight_source(weight)
        shape = ir.Shape([stop - start, weight_shape(weight)[1]])
        value = ir.Value(name=f"{source.name}.{start}", type=weight.type, shape=shape)
        value.meta[WEIGHT] = WeightSource(source.name, source.start + start, source.start + stop)
        self._graph.inputs.append(value)
        return value

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """Add a Cast of a value to `dtype`."""
        return self.add("Cast", [value], f"{value.name}/{dtype.name.lower()}", to=dtype.value)

    def add(
        self, operator: str, inputs: Sequence[ir.Value | None], name: str, **attributes: Any
    ) -> ir.Value:
        """Add a node; return its only output, which has the node's name.

        attributes: those of the operator, and `domain`.
        """
        return self.add_multi_output(operator, inputs, name, 1, **attributes)[0]

    def add_multi_output(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        name: str,
        outputs: int,
        *,
        domain: str = "",
        **attributes: Any,
    ) -> Sequence[ir.Value]:
        """Add a node with several outputs, named NAME, NAME.1, NAME.2, ..."""
        node = ir.node(operator, inputs, attributes, domain=domain, num_outputs=outputs, name=name)
        for index, value in enumerate(node.outputs):
            value.name = f"{name}.{index}" if index else name
        if domain:
            self._opsets.setdefault(domain, 1)
        self._graph.append(node)
        return node.outputs

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Make every consumer of `old`, graph outputs included, read `new`.

        `new` gets the type and shape of `old`.
        """
        new.type, new.shape = old.type, old.shape
        if old.is_graph_output():
            old.name, new.name = f"{old.name}.replaced", old.name
        ir.convenience.replace_all_uses_with(old, new, replace_graph_outputs=True)


def clean_up(model: ir.Model) -> None:
    """Remove nodes and inputs that no output depends on, and sort the nodes topologically.

    Inputs that are weights stay, so that the check for lost weights sees them.
    """
    RemoveUnusedNodesPass()(model)
    for value in [v for v in model.graph.inputs if not v.uses() and not is_weight(v)]:
        model.graph.inputs.remove(value)
    model.graph.sort()
