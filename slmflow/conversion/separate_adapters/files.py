"""The `.onnx_adapter` files of a converted folder, and what the graph computes with them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from onnxruntime import AdapterFormat, OrtValue

from slmflow.checkpoints.adapters.lora import LoraAdapter
from slmflow.conversion.calibration.preparation import ModelTensors, PreparedTensors
from slmflow.conversion.separate_adapters.branches import Branch
from slmflow.runtime.generation.adapters import FOLDER, SUFFIX

_VERSION = 1


class GraphAdapter:
    """An adapter as the graph needs it, whose weights calibration may have scaled.

    name: by which requests choose it.
    """

    def __init__(self, name: str, adapter: LoraAdapter, tensors: ModelTensors) -> None:
        """Take the tensors that the graph's weights were written from."""
        self.name, self.modules = name, adapter.modules
        self._adapter = adapter
        self._changes = tensors.changes if isinstance(tensors, PreparedTensors) else {}

    def matrices(self, path: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return A float32 [rank, inputs] and B [outputs, rank], whose product B @ A is added."""
        a, b = self._adapter.matrices(path)
        b = b * self.modules[path].scaling
        if (columns := self._changes.get(f"columns {path}.weight")) is not None:
            a = a * columns
        if (rows := self._changes.get(f"rows {path}.weight")) is not None:
            b = b * rows[:, None]
        return a, b

    def write(self, folder: Path, branches: Sequence[Branch]) -> None:
        """Write the adapter's file into a converted folder."""
        parameters = {}
        for branch in branches:
            if branch.path in self.modules:
                a, b = self.matrices(branch.path)
                parameters[branch.a] = _value(a)
                parameters[branch.b] = _value(b[branch.start : branch.stop])
        file = folder / FOLDER / f"{self.name}{SUFFIX}"
        file.parent.mkdir(exist_ok=True)
        adapter = AdapterFormat()
        adapter.set_adapter_version(_VERSION)
        adapter.set_model_version(_VERSION)
        adapter.set_parameters(parameters)
        adapter.export_adapter(str(file))


class AdaptedWeights(Mapping[str, torch.Tensor]):
    """The weights of a converted folder with an adapter added, for the reference's own code."""

    def __init__(self, weights: Mapping[str, torch.Tensor], adapter: GraphAdapter) -> None:
        """Add to the weights on each access."""
        self._weights, self._adapter = weights, adapter

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return the values of a tensor."""
        path = name.removesuffix(".weight")
        if path not in self._adapter.modules:
            return self._weights[name]
        a, b = self._adapter.matrices(path)
        return self._weights[name] + b @ a

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names of the weights."""
        return iter(self._weights)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._weights)


def _value(matrix: torch.Tensor) -> OrtValue:
    return OrtValue.ortvalue_from_numpy(np.ascontiguousarray(matrix.numpy().T))
