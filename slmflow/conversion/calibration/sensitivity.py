"""How much the rounding of each weight costs: its share of the KL divergence, estimated.

The weights stay as they are. A label is drawn for each token from the model's own distribution, and
the gradients of its log-likelihood go backward layer by layer. To second order, a change dW of a
weight with inputs x and output gradients g moves the distributions by a KL divergence of half the
mean of (g^T dW x)^2, since those gradients have the Fisher information as their covariance.
Source: Kunstner, Balles and Hennig 2019, https://arxiv.org/abs/1905.12558 (sampled labels).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import nn

from slmflow.conversion.calibration import scale_search
from slmflow.conversion.calibration.decoder_walk import DecoderWalk, Layer
from slmflow.conversion.calibration.preparation import PreparedTensors, prepare
from slmflow.conversion.quantization.blockwise import slabs
from slmflow.conversion.quantization.schemes import Scheme

# Weights whose rounding error is in memory at a time.
_SLAB = 1 << 24

_SEED = 0


@dataclass(frozen=True)
class Sensitivities:
    """What rounding costs.

    divergences: KL divergence in nats per token by weight name, each weight rounded to nearest by
    its scheme and alone; importance: float32 [K] by weight name, the mean square of its inputs;
    head_hessian: float32 [size, size] for the rows of the LM head, and of the embedding if they
    share one tensor.
    """

    divergences: dict[str, float] = field(default_factory=dict)
    importance: dict[str, torch.Tensor] = field(default_factory=dict)
    head_hessian: torch.Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class _Traffic:
    """Inputs and output gradients of a module: lists of float32 [tokens, size]."""

    inputs: list[torch.Tensor] = field(default_factory=list)
    gradients: list[torch.Tensor] = field(default_factory=list)


def measure(
    walk: DecoderWalk,
    checkpoint: PreparedTensors,
    schemes: Mapping[str, Scheme],
    head: str,
    embedding: str,
    advance: Callable[[], None],
) -> Sensitivities:
    """Run the walk's windows forward and backward through the unrounded model.

    Each layer is prepared on its way forward: the changes are added to the tensors, which are those
    of the walk.

    head, embedding: names of the weights of the LM head and the embedding; advance: is called after
    each layer, forward and backward.
    """
    meter = _Meter(checkpoint, schemes)
    inputs = _run_forward(walk, checkpoint, schemes, advance)
    gradients, head_traffic = _run_head(walk, inputs.pop())
    meter.add(head, head_traffic)
    for index in reversed(range(len(walk))):
        with walk.layer(index) as layer:
            gradients, traffic = _run_backward(layer, inputs.pop(), gradients)
            for name, module_traffic in traffic.items():
                meter.add(f"{name}.weight", module_traffic)
        advance()
    meter.add_embedding(embedding, walk, gradients)
    hidden, head_gradients = torch.cat(head_traffic.inputs), torch.cat(head_traffic.gradients)
    hessian = (hidden.T @ hidden) / len(hidden)
    if embedding in checkpoint.tied_names(head):
        # Rows count by how often their token is likely in the one case, and read in the other.
        scale = float(walk.embed(0, torch.ones(checkpoint.shape(embedding)))[0, 0, 0])
        embedded = gradients.flatten(0, 1) * scale
        hessian *= float(head_gradients.square().sum(1).mean())
        hessian += (embedded.T @ embedded) / len(embedded)
    return Sensitivities(meter.divergences, meter.importance, hessian)


def _run_forward(
    walk: DecoderWalk,
    tensors: PreparedTensors,
    schemes: Mapping[str, Scheme],
    advance: Callable[[], None],
) -> list[torch.Tensor]:
    """Return the inputs of all layers and the output of the last: [windows, tokens, size] each."""
    hidden = [walk.embeddings]
    for index in range(len(walk)):
        with torch.no_grad(), walk.layer(index) as layer:
            output, changes = prepare(layer, hidden[-1], schemes)
        hidden.append(output)
        tensors.changes |= changes
        advance()
    return hidden


def _run_head(walk: DecoderWalk, hidden: torch.Tensor) -> tuple[torch.Tensor, _Traffic]:
    """Return the gradients of the last layer's output, and the traffic of the LM head."""
    generator = torch.Generator().manual_seed(_SEED)
    traffic, gradients = _Traffic(), []
    for window in hidden:
        window = window[None].requires_grad_()
        head_input, head_output, logits = walk.finish(window)
        probabilities = logits.detach()[0].softmax(-1)
        labels = torch.multinomial(probabilities, 1, generator=generator)
        likelihood = logits[0].log_softmax(-1).gather(1, labels).sum()
        gradient, head_gradient = torch.autograd.grad(likelihood, (window, head_output))
        gradients.append(gradient)
        traffic.inputs.append(head_input.detach()[0])
        traffic.gradients.append(head_gradient[0])
    return torch.cat(gradients), traffic


def _run_backward(
    layer: Layer, hidden: torch.Tensor, gradients: torch.Tensor
) -> tuple[torch.Tensor, dict[str, _Traffic]]:
    """Return the gradients of a layer's inputs, and the traffic of its Linear modules."""
    traffic: dict[str, _Traffic] = {name: _Traffic() for name in layer.linears}
    earlier = []
    with _observed(layer, traffic):
        for window, gradient in zip(hidden, gradients, strict=True):
            window = window[None].requires_grad_()
            (earlier_gradient,) = torch.autograd.grad(layer.forward(window), window, gradient[None])
            earlier.append(earlier_gradient)
    return torch.cat(earlier), traffic


@contextmanager
def _observed(layer: Layer, traffic: Mapping[str, _Traffic]) -> Iterator[None]:
    def observe(name: str, inputs: torch.Tensor, output: torch.Tensor) -> None:
        traffic[name].inputs.append(inputs.detach()[0])
        output.register_hook(lambda gradient: traffic[name].gradients.append(gradient[0]))

    def register(name: str, module: nn.Module) -> Any:
        if name not in layer.linears:
            return None
        return module.register_forward_hook(
            lambda _, inputs, output: observe(name, inputs[0], output)
        )

    with layer.hooked(register):
        yield


class _Meter:
    """Adds up the divergences of the graph's weights, which may be rows of a tensor."""

    def __init__(self, checkpoint: PreparedTensors, schemes: Mapping[str, Scheme]) -> None:
        self.divergences = dict.fromkeys(schemes, 0.0)
        self.importance: dict[str, torch.Tensor] = {}
        self._checkpoint = checkpoint
        self._schemes = schemes
        self._weights: dict[str, list[str]] = {}
        for name, scheme in schemes.items():
            for alias in checkpoint.tied_names(scheme.source.name):
                self._weights.setdefault(alias, []).append(name)

    def add(self, tensor: str, traffic: _Traffic) -> None:
        """Add what the weights of a tensor cost where they multiply."""
        if tensor not in self._weights:
            return
        inputs, gradients = torch.cat(traffic.inputs), torch.cat(traffic.gradients)
        importance = inputs.square().mean(0)
        changes = {name: torch.zeros(len(inputs)) for name in self._weights[tensor]}
        for name, rows, error in self._errors(tensor, importance):
            changes[name] += ((gradients[:, rows] @ error) * inputs).sum(1)
        for name, change in changes.items():
            self.importance[name] = importance
            self.divergences[name] += 0.5 * float(change.square().mean())

    def add_embedding(self, tensor: str, walk: DecoderWalk, gradients: torch.Tensor) -> None:
        """Add what an embedding costs where its rows are read."""
        if tensor not in self._weights:
            return
        difference = torch.empty(self._checkpoint.shape(tensor))
        size = difference.shape[1]
        for name, rows, error in self._errors(tensor, torch.ones(size)):
            self.importance.setdefault(name, torch.ones(size))
            difference[rows] = error
        changes = [
            (walk.embed(window, difference)[0] * gradient).sum(1)
            for window, gradient in enumerate(gradients)
        ]
        self.divergences[self._weights[tensor][0]] += 0.5 * float(
            torch.cat(changes).square().mean()
        )

    def _errors(
        self, tensor: str, importance: torch.Tensor
    ) -> Iterator[tuple[str, slice, torch.Tensor]]:
        """Yield rows of a tensor's weights, with their rounding errors float32 [rows, K]."""
        weight = self._checkpoint[tensor]
        for name in self._weights[tensor]:
            scheme = self._schemes[name]
            start, stop, _ = slice(scheme.source.start, scheme.source.stop).indices(len(weight))
            for slab in slabs((stop - start, weight.shape[1]), _SLAB):
                rows = slice(start + slab.start, min(start + slab.stop, stop))
                exact = weight[rows].numpy()
                rounded = scale_search.round_to_nearest(exact, importance.numpy(), scheme)
                yield name, rows, torch.from_numpy(np.subtract(rounded, exact, out=rounded))
