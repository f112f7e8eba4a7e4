"""The original model's logits, by transformers' own code, with one module's weights in memory.

The model is made without weights; each module gets its own just before it runs and drops them
after. So the texts of a call go through as one sequence: every weight is read once for all.
"""

import copy
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import init_empty_weights
from accelerate.hooks import attach_align_device_hook
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_utils import no_init_weights

from slmflow.console.messages import counting, quiet
from slmflow.conversion.genai_builder import architecture
from slmflow.errors import UserError

Logits = NDArray[np.float32]
Run = Callable[..., torch.Tensor]

# A copy of a text in the same pass gives the same logits but for the order of sums: this share of
# the largest logit. A text that sees its neighbours is off by far more.
COPY_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Original:
    """A model as transformers has it: its tokenizer, and the module tree without weights.

    model: a PreTrainedModel for causal language modelling in fp32 and eval mode, its parameters
    and persistent buffers on the meta device; what the config alone decides (rotary frequencies,
    embedding scales) is real.
    """

    tokenizer: Any
    model: Any


def load(weights: Path) -> Original:
    """Return the model of a snapshot folder; its weights are not looked at.

    Raises UserError for a model that transformers cannot load, or that has no chat template.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                weights, local_files_only=True, trust_remote_code=False
            )
            config = AutoConfig.from_pretrained(
                weights, local_files_only=True, trust_remote_code=False
            )
            model = without_weights(config)
    except Exception as error:  # tokenizers raises nothing more specific
        raise UserError(
            f"transformers cannot load the model ({architecture(weights)}): "
            f"{(str(error) or repr(error)).splitlines()[0][:200]}. See that config.json, the "
            "tokenizer and the weights belong together, and that it is a causal language model"
        ) from error
    if tokenizer.chat_template is None:
        raise UserError(
            f"the model ({architecture(weights)}) has no chat template, so it cannot take chat "
            "messages: choose its instruct version, or add chat_template.jinja to its folder"
        )
    return Original(tokenizer, model)


def without_weights(config: Any) -> Any:
    """Return transformers' causal language model for a config, as `Original.model` has it."""
    # Capped attention scores are computed by the eager code only; sdpa leaves the cap out.
    eager = getattr(config, "attn_logit_softcapping", None) is not None
    with init_empty_weights(include_buffers=False), no_init_weights():
        model = AutoModelForCausalLM.from_config(
            config,
            dtype=torch.float32,
            trust_remote_code=False,
            attn_implementation="eager" if eager else None,
        )
    model.tie_weights()  # anew: moving them to the meta device made two of each
    return model.eval()


def logits(
    model: Any, weights: Mapping[str, torch.Tensor], rows: Sequence[Sequence[int]]
) -> list[Logits]:
    """Run rows of token ids, which may differ in length, and return the logits of each.

    model: of an `Original`, left as it is; weights: float32 tensors by the names of the model's
    `state_dict`, each asked for once in a pass and held until its module has run. All rows share
    one pass, but for those longer than what the rotary embedding was made for, where it depends
    on the length.

    Returns float32 [tokens, vocabulary] for each row.
    """
    results: dict[int, Logits] = {}
    with counting() as progress, torch.inference_mode():

        def run(**inputs: torch.Tensor) -> torch.Tensor:
            """Return the logits of one pass: float32 [rows, tokens, vocabulary]."""
            tokens = inputs["input_ids"].numel()
            task = progress.add_task(f"original: {tokens} tokens", total=len(model.state_dict()))
            attached = copy.deepcopy(model)
            attach_align_device_hook(
                attached,
                execution_device=torch.device("cpu"),
                offload=True,
                offload_buffers=True,
                weights_map=_Watched(weights, lambda: progress.advance(task)),
            )
            output: torch.Tensor = attached(**inputs, use_cache=False).logits
            return output

        takes_positions = "position_ids" in inspect.signature(model.forward).parameters
        for numbers in _passes(model.config, [len(row) for row in rows]):
            chosen = [rows[number] for number in numbers]
            found = _run_end_to_end(run, chosen) if takes_positions else None
            results.update(zip(numbers, found or _run_padded(run, chosen), strict=True))
    return [results[number] for number in range(len(rows))]


class _Watched(Mapping[str, torch.Tensor]):
    """A mapping that tells of each tensor that is asked for."""

    def __init__(self, tensors: Mapping[str, torch.Tensor], asked: Callable[[], None]) -> None:
        self._tensors = tensors
        self._asked = asked

    def __getitem__(self, name: str) -> torch.Tensor:
        self._asked()
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _passes(config: Any, lengths: Sequence[int]) -> list[list[int]]:
    """Return which rows, by number, may share a pass; in each the shortest row comes first."""
    limit = _length_without_effect(config)
    passes: dict[int, list[int]] = {}
    for number in sorted(range(len(lengths)), key=lengths.__getitem__):
        passes.setdefault(lengths[number] if lengths[number] > limit else 0, []).append(number)
    return list(passes.values())


def _length_without_effect(config: Any) -> float:
    """Return up to which length a text has no effect on the rotary frequencies of all.

    With `longrope` and `dynamic` the longest text of a pass decides them once it is beyond this.
    """
    scaling = getattr(config, "rope_scaling", None) or {}
    if scaling.get("rope_type", scaling.get("type")) not in ("longrope", "dynamic"):
        return math.inf
    longest: int = config.max_position_embeddings
    return min(longest, getattr(config, "original_max_position_embeddings", longest))


def _run_end_to_end(run: Run, rows: Sequence[Sequence[int]]) -> list[Logits] | None:
    """Run rows as one sequence, with positions that begin anew; None if they affect each other.

    No padding is computed that way. Models that make their mask from the positions keep the rows
    apart; whether this one does is seen from a copy of the first row at the end.
    """
    laid = [*rows, rows[0]] if len(rows) > 1 else rows
    lengths = [len(row) for row in laid]
    output = run(
        input_ids=torch.tensor([[token for row in laid for token in row]]),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
    )
    found = [part.numpy() for part in output[0].split(lengths)]
    off = np.abs(found[-1] - found[0]).max() if len(rows) > 1 else 0
    return found[: len(rows)] if off <= COPY_TOLERANCE * np.abs(found[0]).max() else None


def _run_padded(run: Run, rows: Sequence[Sequence[int]]) -> list[Logits]:
    """Run rows as a batch, padded on the right, where no token of a row looks."""
    longest = max(len(row) for row in rows)
    output = run(
        input_ids=torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows]),
        attention_mask=torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows]),
    )
    return [output[number, : len(row)].numpy() for number, row in enumerate(rows)]
