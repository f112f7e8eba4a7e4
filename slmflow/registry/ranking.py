"""Rank models: the flavors of a comparison, or a candidate and the champion."""

from collections.abc import Mapping, Sequence

from slmflow.config.schema.registry import Flavor
from slmflow.metrics.model_metrics import ModelMetrics

# In order of importance. 1: higher is better, -1: lower is better.
_CRITERIA = {
    "accuracy": 1,
    "exact_match": 1,
    "token_f1": 1,
    "latency_ms_p50": -1,
    "model_size_mb": -1,
}

RANKED = frozenset(_CRITERIA)
"""The columns that rank a model."""

# The order in which scores are added changes their sums beyond these decimals.
_DECIMALS = 9


def select_flavor(
    models: Sequence[ModelMetrics], flavor: Flavor | None
) -> tuple[ModelMetrics, str]:
    """Return the model of a flavor, or the best model if that is None, with the reason."""
    if flavor is None and len(models) == 1:
        return models[0], "the only evaluated flavor"
    if flavor is None:
        return best_model(models)
    [selected] = [model for model in models if model.flavor == flavor.value]
    return selected, f"registry.flavor={flavor.value}"


def best_model(models: Sequence[ModelMetrics]) -> tuple[ModelMetrics, str]:
    """Return the best model and the reason.

    The higher accuracy wins (it is measured only for rows with choices), then the higher exact
    match, then the higher token F1, then the lower median latency, then the smaller size. A metric
    that was not measured loses against any value.
    """
    ranked = sorted(models, key=lambda model: _rank(model.measured()), reverse=True)
    best = ranked[0]
    for other in ranked[1:]:
        if difference := describe_difference(best.measured(), other.measured()):
            return best, f"{difference} of {other.flavor}"
    return best, "no other flavor is better"


def outranks(metrics: Mapping[str, float], others: Mapping[str, float]) -> bool:
    """Return whether a model with these metrics, by column, is better than one with the others."""
    return _rank(metrics) > _rank(others)


def describe_difference(metrics: Mapping[str, float], others: Mapping[str, float]) -> str | None:
    """Return the first criterion that differs, with both values; None if none differs."""
    for name in _CRITERIA:
        if _rounded(metrics, name) != _rounded(others, name):
            return f"{name} {_format(metrics.get(name))} against {_format(others.get(name))}"
    return None


def _rank(metrics: Mapping[str, float]) -> tuple[float, ...]:
    values = {name: _rounded(metrics, name) for name in _CRITERIA}
    worst = float("-inf")
    return tuple(
        worst if (value := values[name]) is None else sign * value
        for name, sign in _CRITERIA.items()
    )


def _rounded(metrics: Mapping[str, float], name: str) -> float | None:
    return round(metrics[name], _DECIMALS) if name in metrics else None


def _format(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"
