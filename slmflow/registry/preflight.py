"""What register refuses before any work: names that the comparison or the registry do not know."""

from collections.abc import Iterator, Mapping, Sequence

import mlflow
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from slmflow.config.compose import Config
from slmflow.config.schema.registry import Threshold
from slmflow.errors import BadArguments
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.figures import MEANINGS, NUMBERS


def check(config: Config) -> None:
    """Raise BadArguments, with all problems in one message, where `registry` cannot be met."""
    registry = config.registry
    problems = [
        *_alone_problems(config.evaluation.model_uri),
        *_metric_problems(registry.gate, evaluation_inputs.columns(config)),
        *_name_problems(registry.name),
    ]
    if problems:
        raise BadArguments("\n".join(problems))


def in_unity_catalog() -> bool:
    """Return whether models are registered in Databricks Unity Catalog."""
    return bool(is_databricks_unity_catalog_uri(mlflow.get_registry_uri()))


def _alone_problems(model_uri: str | None) -> Iterator[str]:
    if model_uri is not None:
        yield (
            f"evaluation.model_uri={model_uri!r}: what is evaluated alone is not registered; leave "
            "it out, or evaluate that model with -e evaluate"
        )


def _metric_problems(gate: Mapping[str, Threshold], columns: Sequence[str]) -> Iterator[str]:
    for metric, threshold in gate.items():
        if metric not in columns:
            yield (
                f"registry.gate.{evaluation_inputs.no_figure(metric, columns)} If {metric} is a metric of "
                f"your own, name its function in evaluation.metrics=[my_package.my_module:{metric}]"
            )
        elif metric in NUMBERS and metric not in MEANINGS and threshold.max_drop is not None:
            yield (
                f"registry.gate.{metric}.max_drop={threshold.max_drop:g}: bounds and p-values of "
                "the champion are not kept; give min or max, or a drop of the figure itself"
            )


def _name_problems(name: str) -> Iterator[str]:
    parts = name.split(".")
    if in_unity_catalog() and (len(parts) != 3 or not all(parts)):
        yield (
            f"registry.name={name!r}: the registry is Unity Catalog ({mlflow.get_registry_uri()}), "
            "whose names have three parts; give catalog.schema.model"
        )
