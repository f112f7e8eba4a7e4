"""Logits of the reference by transformers' own code, with one module's weights in memory.

The model has no weights. Each module loads its own just before it runs and drops them after.
All rows run as one sequence where possible, so that every weight is read once.
"""

import copy
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from accelerate.hooks import attach_align_device_hook
from numpy.typing import NDArray

from slmflow.console.progress_bars import item_bar
from slmflow.conversion import rotary

Logits = NDArray[np.float32]
Forward = Callable[..., torch.Tensor]
Observer = Callable[[str, torch.Tensor], None]
"""Receives each weight with its name, and input and output of each module with its path."""

# Two copies of a row in one pass may differ by this share of the largest logit, which the order of
# sums explains. A row that sees its neighbors differs by far more.
COPY_TOLERANCE = 1e-4

# Rows of a padded batch differ in length by at most this. Their logits are padded too.
_MAX_PADDING = 128


def compute(
    model: Any,
    weights: Mapping[str, torch.Tensor],
    rows: Sequence[Sequence[int]],
    observer: Observer | None = None,
) -> list[Logits]:
    """Return the logits of rows of token ids: float32 [tokens, vocabulary] for each.

    model: that of a `ReferenceModel`, left unchanged; weights: float32 by the names of the model's
    `state_dict`, each read once per pass and held until its module has run. All rows share one
    pass, except those longer than the original context length where the rotary angles depend on it,
    and those of very unequal lengths if the model does not keep the rows of a sequence apart.
    """
    logits: dict[int, Logits] = {}
    with item_bar() as progress, torch.inference_mode():

        def forward(**inputs: torch.Tensor) -> torch.Tensor:
            """Return the logits of one pass: float32 [rows, tokens, vocabulary]."""
            tokens = inputs["input_ids"].numel()
            task = progress.add_task(f"reference: {tokens} tokens", total=len(model.state_dict()))

            def on_read(name: str, tensor: torch.Tensor) -> None:
                progress.advance(task)
                if observer is not None:
                    observer(name, tensor)

            attached = copy.deepcopy(model)
            attach_align_device_hook(
                attached,
                execution_device=torch.device("cpu"),
                offload=True,
                offload_buffers=True,
                weights_map=_ObservedWeights(weights, on_read),
            )
            if observer is not None:
                _observe_modules(attached, observer)
            output: torch.Tensor = attached(**inputs, use_cache=False).logits
            return output

        has_positions = "position_ids" in inspect.signature(model.forward).parameters
        for indices in _group_into_passes(model.config, [len(row) for row in rows]):
            group = [rows[index] for index in indices]
            packed = _run_packed(forward, group) if has_positions else None
            logits.update(zip(indices, packed or _run_padded(forward, group), strict=True))
    return [logits[index] for index in range(len(rows))]


def _observe_modules(model: Any, observer: Observer) -> None:
    """Call the observer with the first input and the first output of every module."""

    def observe(path: str, values: Any) -> None:
        value = values[0] if isinstance(values, tuple) and values else values
        if isinstance(value, torch.Tensor):
            observer(path, value)

    for path, module in model.named_modules():
        module.register_forward_pre_hook(lambda _, inputs, path=path: observe(path, inputs))
        module.register_forward_hook(lambda _, __, output, path=path: observe(path, output))


class _ObservedWeights:
    """Tensors by name, for accelerate. Calls `on_read` with each that is read."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], on_read: Observer) -> None:
        self._tensors = tensors
        self._on_read = on_read

    def __getitem__(self, name: str) -> torch.Tensor:
        tensor = self._tensors[name]
        self._on_read(name, tensor)
        return tensor


def _group_into_passes(config: Any, lengths: Sequence[int]) -> list[list[int]]:
    """Return the indices of the rows that may share a pass, the shortest row first in each."""
    limit = _longest_without_effect(config)
    passes: dict[int, list[int]] = {}
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        passes.setdefault(lengths[index] if lengths[index] > limit else 0, []).append(index)
    return list(passes.values())


def _longest_without_effect(config: Any) -> float:
    """Return the longest length of a row that does not change the rotary angles of its pass.

    With `longrope` and `dynamic` the longest row of a pass determines the angles of all, once it is
    longer than this.
    """
    if not rotary.rope_types(config) & {rotary.LONGROPE, "dynamic"}:
        return math.inf
    return rotary.original_length(config)


def _run_packed(forward: Forward, rows: Sequence[Sequence[int]]) -> list[Logits] | None:
    """Run rows as one sequence whose positions restart with each; None if rows affect each other.

    This spends nothing on padding. Models that derive their mask from the positions keep the rows
    apart. A copy of the first row at the end shows whether this model does.
    """
    packed = [*rows, rows[0]] if len(rows) > 1 else rows
    lengths = [len(row) for row in packed]
    output = forward(
        input_ids=torch.tensor([[token for row in packed for token in row]]),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
    )
    logits = [part.numpy() for part in output[0].split(lengths)]
    difference = np.abs(logits[-1] - logits[0]).max() if len(rows) > 1 else 0
    is_separate = difference <= COPY_TOLERANCE * np.abs(logits[0]).max()
    return logits[: len(rows)] if is_separate else None


def _run_padded(forward: Forward, rows: Sequence[Sequence[int]]) -> list[Logits]:
    """Run rows as batches padded on the right, where causal attention does not look.

    rows: the shortest first.
    """
    logits: list[Logits] = []
    while len(logits) < len(rows):
        shortest = len(rows[len(logits)])
        batch = [row for row in rows[len(logits) :] if len(row) <= shortest + _MAX_PADDING]
        logits += _run_batch(forward, batch)
    return logits


def _run_batch(forward: Forward, rows: Sequence[Sequence[int]]) -> list[Logits]:
    longest = max(len(row) for row in rows)
    output = forward(
        input_ids=torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]),
        attention_mask=torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    )
    return [output[index, : len(row)].numpy() for index, row in enumerate(rows)]
