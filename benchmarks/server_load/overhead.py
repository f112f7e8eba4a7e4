"""What MLflow's `predict` adds to the bare runtime, for one answer."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness.paired_turns import alternate
from benchmarks.server_load.in_process_model import LoadedModel, Said
from benchmarks.server_load.prompts import NEW_TOKENS

# An answer is soon given, and a few percent are little: so many for each of the rounds.
_TURNS = 12


@dataclass(frozen=True)
class Overhead:
    """Seconds per answer, one per turn: `predict` of the MLflow model, and the bare runtime.

    prompt_tokens: of each prompt; differing: answers of
    `predict` that are not the runtime's text.
    """

    prompt_tokens: tuple[int, ...]
    new_tokens: int
    predict_s: tuple[float, ...]
    bare_s: tuple[float, ...]
    differing: int


def measure(model: LoadedModel, texts: Sequence[str], rounds: int) -> Overhead:
    """Time `predict` and the bare runtime on the same prompts, in turns."""
    prompts = [model.rendered(text) for text in texts]
    predicted, bare = alternate(
        "overhead",
        lambda number: _timed(model.answer, texts[number % len(texts)]),
        lambda number: _timed(model.bare, prompts[number % len(texts)]),
        rounds * _TURNS,
    )
    return Overhead(
        prompt_tokens=tuple(said.prompt_tokens for said, _ in bare[: len(texts)]),
        new_tokens=NEW_TOKENS,
        predict_s=tuple(seconds for _, seconds in predicted),
        bare_s=tuple(seconds for _, seconds in bare),
        differing=sum(one != other for (one, _), (other, _) in zip(predicted, bare, strict=True)),
    )


def _timed(answer: Callable[[str], Said], asked: str) -> tuple[Said, float]:
    began = time.perf_counter()
    said = answer(asked)
    return said, time.perf_counter() - began
