"""Several completions of one request: `n` requests that differ in their seeds."""

from collections.abc import Mapping
from typing import Any

from ..errors import reject

MAX_COMPLETIONS = 8
"""The most completions of one prompt."""


def find_problem(n: Any) -> str | None:
    """Return what is wrong with an `n`, None if it is valid."""
    if type(n) is int and 1 <= n <= MAX_COMPLETIONS:
        return None
    return f"n={n!r:.100}: must be a whole number from 1 to {MAX_COMPLETIONS}"


def repeat(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one request for each completion that `n` asks for; the first has the request's seed.

    Raises MlflowException (HTTP 400) for an invalid `n`.
    """
    n = request.get("n", 1)
    if problem := find_problem(n):
        reject(problem, param="n")
    single = {name: value for name, value in request.items() if name != "n"}
    seed = single.get("seed")
    if type(seed) is not int or seed < 0:  # none, or one that is drawn, or that is invalid
        return [dict(single) for _ in range(n)]
    others = ({**single, "seed": (seed + index) % 2**63} for index in range(1, n))
    return [single, *others]
