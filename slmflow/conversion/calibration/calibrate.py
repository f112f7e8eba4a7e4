"""Quantize a model on text: choose the precision of each weight, and round with error feedback.

Two walks through the decoder, one layer in memory at a time: the first measures what rounding each
weight costs, the second rounds layer after layer, each on what the rounded layers before it return.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.console import messages
from slmflow.console.progress_bars import item_bar
from slmflow.conversion.calibration import allocation, gptq, sensitivity
from slmflow.conversion.calibration.allocation import Option
from slmflow.conversion.calibration.decoder_walk import DecoderWalk, Layer
from slmflow.conversion.calibration.gptq import Feedback
from slmflow.conversion.calibration.input_moments import InputMoments
from slmflow.conversion.calibration.preparation import PreparedTensors
from slmflow.conversion.calibration.sensitivity import Sensitivities
from slmflow.conversion.calibration.workspace import Workspace
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.blockwise import QuantizedWeight
from slmflow.conversion.quantization.replaced_weights import ReplacedWeights
from slmflow.conversion.quantization.schemes import Scheme
from slmflow.conversion.reference_model import is_large

Windows = Sequence[Sequence[int]]

# Tokens that sensitivities are measured on, half as many for a large model: the gradients of all of
# them are in memory for one layer.
SENSITIVITY_TOKENS = 2048

_PREPARED, _SENSITIVITY, _EMBEDDED, _HIDDEN = "prepared", "sensitivity", "embedded", "hidden"


@dataclass(frozen=True)
class Quantizable:
    """The weights to quantize.

    schemes: by weight name; shapes: [N, K] by weight name; fixed: names whose scheme stays;
    smallest_block: of the others at their scheme's bits.
    """

    schemes: Mapping[str, Scheme]
    shapes: Mapping[str, Sequence[int]]
    fixed: frozenset[str]
    smallest_block: int


class Calibration:
    """The calibration of one model, continued from what the workspace has.

    tensors: those of the checkpoint, scaled so that rounding costs less.
    """

    def __init__(
        self, model: Any, checkpoint: CheckpointTensors, windows: Windows, workspace: Workspace
    ) -> None:
        """Take the model of a `ReferenceModel` and windows of token ids of equal length."""
        self._model = model
        changes = workspace.load(_PREPARED) if workspace.has(_PREPARED) else {}
        self.tensors = PreparedTensors(checkpoint, changes)
        self._windows, self._workspace = windows, workspace
        self._head = _weight_name(model, model.get_output_embeddings())
        self._embedding = _weight_name(model, model.get_input_embeddings())

    def choose_schemes(self, weights: Quantizable, budget: int | None) -> dict[str, Scheme]:
        """Return the schemes that cost least within a budget of bytes; None keeps all schemes."""
        if budget is None:
            return dict(weights.schemes)
        costs = self._sensitivities(weights)
        chosen = allocation.allocate(self._choices(weights, costs), budget)
        return {name: option.scheme for name, option in chosen.items()}

    def quantize(self, weights: Quantizable) -> Mapping[str, QuantizedWeight]:
        """Round all weights by their schemes; return them, read from the workspace on access."""
        costs = self._sensitivities(weights)  # prepares the tensors
        columns = {name: shape[1] for name, shape in weights.shapes.items()}
        embeddings = self._embedding_schemes(weights)
        self._quantize_embeddings(embeddings, costs.head_hessian)
        stored = self._workspace.weights(weights.schemes, columns)
        self._quantize_layers(weights, _RoundedWeights(embeddings, self.tensors, stored))
        return self._workspace.weights(weights.schemes, columns)

    def _sensitivities(self, weights: Quantizable) -> Sensitivities:
        if not (self._workspace.has(_PREPARED) and self._workspace.has(_SENSITIVITY)):
            self.tensors.changes.clear()
            tokens = SENSITIVITY_TOKENS // 2 if is_large(self._model) else SENSITIVITY_TOKENS
            count = max(1, tokens // len(self._windows[0]))
            step = max(1, len(self._windows) // count)
            walk = DecoderWalk(self._model, self.tensors, self._windows[::step][:count])
            with item_bar() as progress:
                task = progress.add_task("sensitivity of each weight", total=2 * len(walk))
                costs = sensitivity.measure(
                    walk,
                    self.tensors,
                    weights.schemes,
                    self._head,
                    self._embedding,
                    lambda: progress.advance(task),
                )
            changes = {name: vector.clone() for name, vector in self.tensors.changes.items()}
            self._workspace.save(_PREPARED, changes)
            self._workspace.save(_SENSITIVITY, _pack(costs))
        return _unpack(self._workspace.load(_SENSITIVITY))

    def _choices(self, weights: Quantizable, costs: Sensitivities) -> dict[str, list[Option]]:
        gathered = self.tensors.tied_names(self._embedding)
        choices = {}
        for name, scheme in weights.schemes.items():
            shape, cost = weights.shapes[name], costs.divergences[name]
            if name in weights.fixed:
                size = allocation.stored_bytes(shape, scheme)
                choices[name] = [Option(scheme, size, cost)]
                continue
            rows = self.tensors[scheme.source.name][scheme.source.start : scheme.source.stop]
            choices[name] = allocation.options(
                scheme,
                shape,
                cost,
                allocation.block_errors(rows.numpy(), costs.importance[name].numpy()),
                weights.smallest_block,
                is_gathered=scheme.source.name in gathered,
            )
        return choices

    def _embedding_schemes(self, weights: Quantizable) -> dict[str, Scheme]:
        """Return the schemes of LM head and embedding, by weight name."""
        outside = (*self.tensors.tied_names(self._head), self._embedding)
        return {n: each for n, each in weights.schemes.items() if each.source.name in outside}

    def _quantize_embeddings(
        self, schemes: Mapping[str, Scheme], head_hessian: torch.Tensor
    ) -> None:
        """Round LM head and embedding, which the inputs of the LM head calibrate."""
        if not schemes or self._workspace.has(_EMBEDDED):
            return
        head_feedback = Feedback(head_hessian)
        rounded = {}
        for name, scheme in schemes.items():
            tensor = self.tensors[scheme.source.name]
            is_head = self._head in self.tensors.tied_names(scheme.source.name)
            feedback = head_feedback if is_head else Feedback(torch.eye(tensor.shape[1]))
            rounded[name] = gptq.quantize(tensor, feedback, scheme)
        self._workspace.save_weights(_EMBEDDED, rounded)

    def _quantize_layers(self, weights: Quantizable, values: "_RoundedWeights") -> None:
        walk = DecoderWalk(self._model, values, self._windows)
        done, hidden = self._finished_layers() or (0, walk.embeddings)
        if done:
            messages.info(f"calibration continues after layer {done} of {len(walk)}")
        with item_bar() as progress, torch.no_grad():
            task = progress.add_task("calibrated rounding", total=len(walk), completed=done)
            for index in range(done, len(walk)):
                with walk.layer(index) as layer:
                    rounded = _quantize_layer(layer, hidden, weights.schemes)
                    self._workspace.save_weights(_layer_group(index), rounded)
                    hidden = torch.cat([layer.forward(window[None]) for window in hidden])
                layers = torch.tensor(index + 1)
                self._workspace.save(_HIDDEN, {"layers": layers, "hidden": hidden})
                progress.advance(task)

    def _finished_layers(self) -> tuple[int, torch.Tensor] | None:
        """Return how many layers are rounded, and what the last returns; None if a file is lost."""
        if not self._workspace.has(_HIDDEN):
            return None
        kept = self._workspace.load(_HIDDEN)
        done = int(kept["layers"])
        are_complete = all(self._workspace.has(_layer_group(index)) for index in range(done))
        return (done, kept["hidden"]) if are_complete else None


def _layer_group(index: int) -> str:
    return f"layer-{index}"


def _weight_name(model: Any, module: nn.Module) -> str:
    return next(f"{name}.weight" for name, each in model.named_modules() if each is module)


def _pack(costs: Sensitivities) -> dict[str, torch.Tensor]:
    return {
        "head_hessian": costs.head_hessian,
        # Rows of one tensor share theirs, which safetensors refuses to write.
        **{f"importance {name}": value.clone() for name, value in costs.importance.items()},
        **{f"divergence {name}": torch.tensor(v) for name, v in costs.divergences.items()},
    }


def _unpack(tensors: Mapping[str, torch.Tensor]) -> Sensitivities:
    def select(kind: str) -> dict[str, torch.Tensor]:
        return {k.partition(" ")[2]: v for k, v in tensors.items() if k.startswith(f"{kind} ")}

    divergences = {name: float(value) for name, value in select("divergence").items()}
    return Sensitivities(divergences, select("importance"), tensors["head_hessian"])


def _quantize_layer(
    layer: Layer, hidden: torch.Tensor, schemes: Mapping[str, Scheme]
) -> dict[str, QuantizedWeight]:
    """Round a layer's weights and let its modules compute with the rounded values."""
    rounded: dict[str, QuantizedWeight] = {}
    by_tensor: dict[str, list[str]] = {}
    for name, scheme in schemes.items():
        by_tensor.setdefault(scheme.source.name, []).append(name)
    for modules, hessian in _hessians(layer, hidden):
        names = [n for m in modules for n in by_tensor.get(f"{m}.weight", ())]
        if not names:
            continue
        feedback = Feedback(hessian)
        for name in names:
            source = schemes[name].source
            weight = layer.linears[source.name.removesuffix(".weight")].weight.data
            rows = weight[source.start : source.stop]
            rounded[name] = gptq.quantize(rows, feedback, schemes[name])
            rows.copy_(torch.from_numpy(blockwise.dequantize(rounded[name])))
    return rounded


def _hessians(layer: Layer, hidden: torch.Tensor) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Yield groups of a layer's modules that read the same input, with its Hessian."""
    groups: dict[str, str] = {}
    moments: dict[str, InputMoments] = {}
    for window in hidden:
        with _recorded_inputs(layer) as inputs:
            layer.forward(window[None])
        first_readers: dict[int, str] = {}
        for name, values in inputs.items():
            first = first_readers.setdefault(values.data_ptr(), name)
            groups[name] = first
            if first == name:
                if name not in moments:
                    moments[name] = InputMoments(values.shape[-1], hidden[..., 0].numel())
                moments[name].add(values.flatten(0, -2))
    for first in list(moments):
        members = [name for name, other in groups.items() if other == first]
        yield members, moments.pop(first).hessian()


@contextmanager
def _recorded_inputs(layer: Layer) -> Iterator[dict[str, torch.Tensor]]:
    """Yield a dict that receives the input of each Linear module that runs."""
    inputs: dict[str, torch.Tensor] = {}

    def register(name: str, module: nn.Module) -> Any:
        if name not in layer.linears:
            return None
        return module.register_forward_pre_hook(
            lambda _, arguments: inputs.__setitem__(name, arguments[0])
        )

    with layer.hooked(register):
        yield inputs


class _RoundedWeights(ReplacedWeights):
    """The tensors of a model, those of some schemes by their rounded values."""

    def __init__(
        self,
        schemes: Mapping[str, Scheme],
        tensors: PreparedTensors,
        quantized: Mapping[str, QuantizedWeight],
    ) -> None:
        super().__init__(schemes, tensors, fp16=False)
        self._quantized = quantized

    def _replacement(self, name: str, parts: Sequence[str]) -> torch.Tensor:
        values = [blockwise.dequantize(self._quantized[part]) for part in parts]
        return torch.from_numpy(np.concatenate(values))
