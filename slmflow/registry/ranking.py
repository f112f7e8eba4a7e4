"""Which of several is the better one: the flavors of a comparison, or a flavor and the champion."""

from collections.abc import Mapping, Sequence

from slmflow.config.schema.registry import Flavor
from slmflow.metrics.figures import FlavorFigures


def chosen(figures: Sequence[FlavorFigures], flavor: Flavor | None) -> tuple[FlavorFigures, str]:
    """Return the flavor that is asked for, or else the better one, and the reason in words."""
    if flavor is None:
        return better(figures)
    [asked] = [row for row in figures if row.flavor == flavor.value]
    return asked, f"registry.flavor={flavor.value}"


def better(figures: Sequence[FlavorFigures]) -> tuple[FlavorFigures, str]:
    """Return the better flavor and the reason in words.

    More right choices win where rows have any, then more exact answers; where they are level, the
    higher token F1; where that is level too, the lower median latency. A figure that was not
    measured loses against any that was.
    """
    ranked = sorted(figures, key=lambda row: _rank(row.measured()), reverse=True)
    best = ranked[0]
    for other in ranked[1:]:
        if difference := first_difference(best.measured(), other.measured()):
            return best, f"{difference} of {other.flavor}"
    return best, "no other flavor is better"


def beats(ours: Mapping[str, float], theirs: Mapping[str, float]) -> bool:
    """Return whether our figures, by column, come before theirs in the ranking of `better`."""
    return _rank(ours) > _rank(theirs)


def first_difference(ours: Mapping[str, float], theirs: Mapping[str, float]) -> str | None:
    """Return the figures that set two apart, in words, or None where they are level."""
    for name in _CRITERIA:
        if ours.get(name) != theirs.get(name):
            return f"{name} {_written(ours.get(name))} against {_written(theirs.get(name))}"
    return None


_CRITERIA = {"accuracy": 1, "exact_match": 1, "token_f1": 1, "latency_ms_p50": -1}


def _rank(figures: Mapping[str, float]) -> tuple[float, ...]:
    worst = float("-inf")
    return tuple(
        sign * figures[name] if name in figures else worst for name, sign in _CRITERIA.items()
    )


def _written(figure: float | None) -> str:
    return "not measured" if figure is None else f"{figure:.4g}"
