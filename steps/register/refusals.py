"""What register refuses before any work: names that the comparison or the registry do not know."""

import difflib
from collections.abc import Iterator, Mapping

import mlflow
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from steps.common.config import Registry, Threshold
from steps.common.errors import BadArguments
from steps.register.direction import MORE_IS_BETTER


def check(registry: Registry) -> None:
    """Raise BadArguments, with all problems in one message, where `registry` cannot be met."""
    problems = [*_metric_problems(registry.gate), *_name_problems(registry.name)]
    if problems:
        raise BadArguments("\n".join(problems))


def in_unity_catalog() -> bool:
    """Return whether models are registered in Databricks Unity Catalog."""
    return bool(is_databricks_unity_catalog_uri(mlflow.get_registry_uri()))


def _metric_problems(gate: Mapping[str, Threshold]) -> Iterator[str]:
    for metric in gate:
        if metric not in MORE_IS_BETTER:
            close = difflib.get_close_matches(metric, MORE_IS_BETTER, n=1)
            hint = f" Did you mean {close[0]}?" if close else ""
            valid = ", ".join(sorted(MORE_IS_BETTER))
            yield f"registry.gate.{metric}: not a figure.{hint} The figures are {valid}."


def _name_problems(name: str) -> Iterator[str]:
    parts = name.split(".")
    if in_unity_catalog() and (len(parts) != 3 or not all(parts)):
        yield (
            f"registry.name={name!r}: the registry is Unity Catalog ({mlflow.get_registry_uri()}), "
            "whose names have three parts; give catalog.schema.model"
        )
