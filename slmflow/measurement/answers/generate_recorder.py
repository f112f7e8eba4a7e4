"""Record the calls of `generate` that MLflow's transformers flavor makes for a request."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import StoppingCriteria

_INPUTS = ("input_ids", "attention_mask")


@dataclass(frozen=True)
class GenerateCall:
    """One call: its other keyword arguments, and the token ids of prompt and completion.

    generated_ids: with the end token; empty if the call was only intercepted. first_token_at: by
    `time.perf_counter`.
    """

    arguments: Mapping[str, Any]
    prompt_ids: list[int]
    generated_ids: list[int]
    first_token_at: float | None


class _Intercepted(Exception):
    """A call was intercepted instead of run."""


class GenerateRecorder:
    """Stands in for `generate` of a model, with the same result.

    last: the latest call of a single prompt; generate: the model's own method.
    """

    def __init__(self, model: Any) -> None:
        """Record the calls of a transformers model from now on."""
        self.generate: Callable[..., Any] = model.generate
        self.last: GenerateCall | None = None
        self._intercepts = False
        model.generate = self._record

    @contextmanager
    def intercepted(self) -> Iterator[None]:
        """Record the call within and leave the block there, without generating anything."""
        self.last, self._intercepts = None, True
        try:
            yield
        except _Intercepted:
            pass
        finally:
            self._intercepts = False

    def _record(self, *inputs: Any, **arguments: Any) -> Any:
        if inputs:  # not the pipeline, which gives names to all
            return self.generate(*inputs, **arguments)
        given = {name: value for name, value in arguments.items() if name not in _INPUTS}
        ids = arguments.get("input_ids")
        prompt: list[int] = [] if ids is None else ids[0].tolist()
        if self._intercepts:
            self.last = GenerateCall(given, prompt, [], None)
            raise _Intercepted
        timer = _FirstTokenTimer()
        criteria = [*(arguments.pop("stopping_criteria", None) or ()), timer]
        output = self.generate(**arguments, stopping_criteria=criteria)
        sequence: list[int] = getattr(output, "sequences", output)[0].tolist()
        self.last = GenerateCall(given, prompt, sequence[len(prompt) :], timer.first_token_at)
        return output


class _FirstTokenTimer(StoppingCriteria):
    """Stops nothing; notes when the first token was there, by `time.perf_counter`."""

    def __init__(self) -> None:
        self.first_token_at: float | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
