"""Validate the config of register before any work: the gate's metrics and the model's name."""

from collections.abc import Iterator, Mapping, Sequence

import mlflow
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from slmflow.config.schema.config import Config
from slmflow.config.schema.registry import Threshold
from slmflow.errors import BadArguments
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.model_metrics import METRIC_COLUMNS, NUMERIC_COLUMNS

# Columns that a champion's tags do not hold: interval bounds and p-values.
_WITHOUT_BASELINE = set(NUMERIC_COLUMNS) - METRIC_COLUMNS.keys()


def validate_config(config: Config) -> None:
    """Raise BadArguments with all problems if the config cannot lead to a registered version."""
    registry = config.registry
    problems = [
        *_single_model_problems(config.evaluation.model_uri),
        *_gate_problems(registry.gate, evaluation_inputs.numeric_columns(config)),
        *_name_problems(registry.name),
    ]
    if problems:
        raise BadArguments("\n".join(problems))


def uses_unity_catalog() -> bool:
    """Return whether the model registry is Databricks Unity Catalog."""
    return bool(is_databricks_unity_catalog_uri(mlflow.get_registry_uri()))


def _single_model_problems(model_uri: str | None) -> Iterator[str]:
    if model_uri is not None:
        yield (
            f"evaluation.model_uri={model_uri!r}: a model that is evaluated alone is not "
            "registered; leave it out, or evaluate that model with -e evaluate"
        )


def _gate_problems(gate: Mapping[str, Threshold], columns: Sequence[str]) -> Iterator[str]:
    for metric, threshold in gate.items():
        if metric not in columns:
            unknown = evaluation_inputs.describe_unknown_column(metric, columns)
            yield (
                f"registry.gate.{unknown} If {metric} is a metric of your own, name its function "
                f"in evaluation.metrics=[my_package.my_module:{metric}]"
            )
        elif threshold.max_drop is not None and metric in _WITHOUT_BASELINE:
            yield (
                f"registry.gate.{metric}.max_drop={threshold.max_drop:g}: a champion's interval "
                "bounds and p-values are not stored; set min or max, or the max_drop of the metric "
                "itself"
            )


def _name_problems(name: str) -> Iterator[str]:
    parts = name.split(".")
    if uses_unity_catalog() and (len(parts) != 3 or not all(parts)):
        yield (
            f"registry.name={name!r}: the registry is Unity Catalog ({mlflow.get_registry_uri()}), "
            "whose names have three parts; set it to catalog.schema.model"
        )
