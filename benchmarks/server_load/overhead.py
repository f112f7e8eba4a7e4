"""The overhead of MLflow's `predict` over the bare runtime, for one completion."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.paired_rounds import alternate
from benchmarks.server_load.in_process_model import Completion, InProcessModel
from benchmarks.server_load.prompts import NEW_TOKENS

# Completions per round: one is short, and a difference of a few percent needs many.
_COMPLETIONS_PER_ROUND = 12


@dataclass(frozen=True)
class Overhead:
    """Seconds per completion, one value each: `predict` of the MLflow model, and the bare runtime.

    prompt_tokens: of each prompt. differing: completions of `predict` with another text.
    """

    prompt_tokens: tuple[int, ...]
    new_tokens: int
    predict_s: tuple[float, ...]
    bare_s: tuple[float, ...]
    differing: int


def measure(model: InProcessModel, texts: Sequence[str], rounds: int) -> Overhead:
    """Time `predict` and the bare runtime on the same prompts, in alternating order."""
    prompts = [model.render(text) for text in texts]
    predicted, bare = alternate(
        "overhead",
        lambda number: _timed(model.complete, texts[number % len(texts)]),
        lambda number: _timed(model.complete_bare, prompts[number % len(texts)]),
        rounds * _COMPLETIONS_PER_ROUND,
    )
    return Overhead(
        prompt_tokens=tuple(each.prompt_tokens for each, _ in bare[: len(texts)]),
        new_tokens=NEW_TOKENS,
        predict_s=tuple(seconds for _, seconds in predicted),
        bare_s=tuple(seconds for _, seconds in bare),
        differing=sum(one != other for (one, _), (other, _) in zip(predicted, bare, strict=True)),
    )


def _timed(complete: Callable[[str], Completion], prompt: str) -> tuple[Completion, float]:
    start = time.perf_counter()
    completion = complete(prompt)
    return completion, time.perf_counter() - start
