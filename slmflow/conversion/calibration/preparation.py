"""Scales between a layer's modules: they leave its function as it is, and its rounding cheaper.

The columns of a weight whose inputs are large count most. They are scaled up, so that rounding
changes them less, and what produces those inputs is scaled down: a norm, or the rows of an up
projection. Source: AWQ, Lin et al. 2023, https://arxiv.org/abs/2306.00978.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion.calibration.allocation import block_errors
from slmflow.conversion.calibration.decoder_walk import Layer
from slmflow.conversion.quantization.schemes import Scheme

# Exponents tried for the root mean square of an input; 0 scales nothing.
_EXPONENTS = (0.0, 0.15, 0.25, 0.35, 0.5)
_LARGEST_SCALE = 16.0

# What a change does, before the name of its tensor.
_KINDS = ("vector", "columns", "rows")

# Modules whose output a gate multiplies, before down_proj reads it.
_UP = ("up_proj", "gate_up_proj")

# Largest difference of a scaled layer's output, as a share of the largest value in it: the order of
# sums explains that much.
_TOLERANCE = 1e-4


class PreparedTensors(Mapping[str, torch.Tensor]):
    """The tensors of a checkpoint, scaled; see `CheckpointTensors`.

    changes: by tensor name, the factors of its columns or of its rows, or a vector in its place.
    """

    def __init__(
        self, checkpoint: CheckpointTensors, changes: Mapping[str, torch.Tensor] | None = None
    ) -> None:
        """Take changes as `changes` returns them."""
        self._checkpoint = checkpoint
        self.changes = dict(changes or {})

    def __getitem__(self, name: str) -> torch.Tensor:
        """Read a tensor."""
        tensor = self._checkpoint[name]
        for kind in _KINDS:
            if (vector := self.changes.get(f"{kind} {name}")) is not None:
                _apply(kind, tensor, vector)
        return tensor

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, in the model's order."""
        return iter(self._checkpoint)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._checkpoint)

    def tied_names(self, name: str) -> tuple[str, ...]:
        """Return all names that share the tensor, including `name` itself."""
        return self._checkpoint.tied_names(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor without reading it."""
        return self._checkpoint.shape(name)


ModelTensors = CheckpointTensors | PreparedTensors


def _apply(kind: str, tensor: torch.Tensor, vector: torch.Tensor) -> None:
    """Change a tensor in place: multiply its columns or rows, or put the vector in its place."""
    match kind:
        case "vector":
            tensor.copy_(vector)
        case "columns":
            tensor *= vector
        case "rows":
            tensor *= vector[:, None]


@dataclass(frozen=True)
class _Pair:
    """A module and the Linear modules that read its output and nothing else does."""

    producer: str
    readers: tuple[str, ...]


def prepare(
    layer: Layer, hidden: torch.Tensor, schemes: Mapping[str, Scheme]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Scale a layer whose weights are in memory.

    hidden: float32 [windows, tokens, size]. Returns the layer's output, computed before, and the
    changes by tensor name, see `PreparedTensors`: none if the scaled layer returned anything else.
    """
    outputs = []
    with _observed(layer) as connections:
        for window in hidden:
            outputs.append(layer.forward(window[None]))
            connections.end_window(len(window))
    output = torch.cat(outputs)
    blocks = {scheme.source.name: scheme.block_size for scheme in schemes.values()}
    changes: dict[str, torch.Tensor] = {}
    for pair in connections.pairs():
        if all(f"{reader}.weight" in blocks for reader in pair.readers):
            scales = _search(layer, pair, connections.importance(pair.readers[0]), blocks)
            if scales is not None:
                changes |= _changes(layer, pair, scales)
    if changes and not _returns(layer, changes, hidden[:1], output[:1]):
        changes = {}
    return output, changes


def _search(
    layer: Layer, pair: _Pair, importance: torch.Tensor, blocks: Mapping[str, int]
) -> torch.Tensor | None:
    """Return the factors [K] of the readers' columns with the least rounding error, if any."""
    size = importance.sqrt().clamp_min(float(importance.sqrt().mean()) * 1e-3 + 1e-30)
    best, least = None, float("inf")
    for exponent in _EXPONENTS:
        factors = size**exponent
        factors /= factors.log().mean().exp()
        factors = factors.clamp(1 / _LARGEST_SCALE, _LARGEST_SCALE)
        error = sum(
            block_errors(
                layer.linears[reader].weight.data.numpy(),
                (importance / factors.square()).numpy(),
                [blocks[f"{reader}.weight"]],
                factors.numpy(),
            )[blocks[f"{reader}.weight"]]
            for reader in pair.readers
        )
        if error < least:
            best, least = (factors if exponent else None), error
    return best


def _changes(layer: Layer, pair: _Pair, factors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the changes that scale the readers' columns and undo it in the producer."""
    producer = layer.modules[pair.producer]
    changes = {f"columns {reader}.weight": factors for reader in pair.readers}
    if isinstance(producer, nn.Linear):
        # Of gate and up in one tensor, the up projection is the second half.
        rows = torch.ones(producer.out_features)
        rows[-len(factors) :] = 1 / factors
        changes[f"rows {pair.producer}.weight"] = rows
        if producer.bias is not None:
            changes[f"vector {pair.producer}.bias"] = producer.bias.data * rows
    else:
        changes |= {
            f"vector {pair.producer}.{name}": vector
            for name, vector in _scaled_norm(producer, 1 / factors).items()
        }
    return changes


def _scaled_norm(norm: nn.Module, factors: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the parameters of a norm whose output is multiplied by factors.

    Some norms multiply by 1 + weight: a zero weight tells.
    """
    parameters = {name: p.data for name, p in norm.named_parameters(recurse=False)}
    weight = parameters["weight"]
    kept, probe = weight.clone(), torch.linspace(-1, 1, len(weight))[None, None]
    bias = parameters.get("bias")
    weight.zero_()
    offset = norm(probe) - (0 if bias is None else bias)
    weight.copy_(kept)
    scaled = {name: vector * factors for name, vector in parameters.items()}
    if bool(offset.abs().max() > 0):
        scaled["weight"] = (1 + weight) * factors - 1
    return scaled


def _returns(
    layer: Layer, changes: Mapping[str, torch.Tensor], hidden: torch.Tensor, output: torch.Tensor
) -> bool:
    """Return whether the layer with these changes returns the same output for one window."""
    kept: dict[str, torch.Tensor] = {}
    for change, vector in changes.items():
        kind, _, name = change.partition(" ")
        module, _, parameter = name.rpartition(".")
        tensor: torch.Tensor = getattr(layer.modules[module], parameter).data
        kept.setdefault(name, tensor.clone())
        _apply(kind, tensor, vector)
    difference = float((layer.forward(hidden) - output).abs().max())
    for name, tensor in kept.items():
        module, _, parameter = name.rpartition(".")
        getattr(layer.modules[module], parameter).data.copy_(tensor)
    return difference <= _TOLERANCE * float(output.abs().max())


class _Connections:
    """Which module reads whose output, and how large inputs are."""

    def __init__(self) -> None:
        self._outputs: dict[int, str] = {}
        self._producers: dict[str, str] = {}
        self._kept: list[torch.Tensor] = []  # so that no other tensor takes their place in memory
        self._sums: dict[str, torch.Tensor] = {}
        self._tokens = 0

    def record_output(self, path: str, output: torch.Tensor) -> None:
        """Record the output of a norm."""
        self._kept.append(output)
        self._outputs[output.data_ptr()] = path

    def record_input(self, path: str, values: torch.Tensor) -> None:
        """Record the input of a Linear module."""
        self._kept.append(values)
        if (producer := self._outputs.get(values.data_ptr())) is not None:
            self._producers[path] = producer
        squares = values.flatten(0, -2).square().sum(0)
        self._sums[path] = self._sums[path] + squares if path in self._sums else squares

    def end_window(self, tokens: int) -> None:
        """Forget the tensors of one forward pass of `tokens` tokens."""
        self._kept.clear()
        self._outputs.clear()
        self._tokens += tokens

    def importance(self, path: str) -> torch.Tensor:
        """Return the mean square of a Linear module's inputs: float32 [K]."""
        return self._sums[path] / self._tokens

    def pairs(self) -> Iterator[_Pair]:
        """Yield norms and up projections with those that read their outputs."""
        readers: dict[str, list[str]] = {}
        for reader, producer in self._producers.items():
            readers.setdefault(producer, []).append(reader)
        for producer, names in readers.items():
            yield _Pair(producer, tuple(names))
        for path in self._sums:
            block, _, name = path.rpartition(".")
            up = next((f"{block}.{n}" for n in _UP if f"{block}.{n}" in self._sums), None)
            if name == "down_proj" and up is not None:
                yield _Pair(up, (path,))


@contextmanager
def _observed(layer: Layer) -> Iterator[_Connections]:
    """Record what the layer's modules read and return, window by window."""
    connections = _Connections()

    def register(path: str, module: nn.Module) -> Any:
        if path in layer.linears:
            return module.register_forward_pre_hook(
                lambda _, inputs: connections.record_input(path, inputs[0])
            )
        if _is_norm(module):
            return module.register_forward_hook(
                lambda _, __, output: connections.record_output(path, output)
            )
        return None

    with layer.hooked(register):
        yield connections


def _is_norm(module: nn.Module) -> bool:
    parameters = dict(module.named_parameters(recurse=False))
    return "norm" in type(module).__name__.lower() and set(parameters) in (
        {"weight"},
        {"weight", "bias"},
    )
