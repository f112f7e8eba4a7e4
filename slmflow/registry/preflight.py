"""Validate the config of register before any work: the gate's metrics and the model's name."""

import os
from collections.abc import Iterator, Mapping, Sequence

import mlflow
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.uri import is_databricks_unity_catalog_uri

from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import Reference
from slmflow.config.schema.registry import Flavor, Registry, Stage, Threshold
from slmflow.errors import BadArguments, UserError
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.model_metrics import METRIC_COLUMNS, NUMERIC_COLUMNS, needs_reference
from slmflow.pipeline import registered_models
from slmflow.registry import announcements

_DENIED = ("PERMISSION_DENIED", "UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED")

_NO_REFERENCE = "evaluation.reference=none"

# Columns that a champion's tags do not hold: interval bounds, p-values and differences.
_WITHOUT_BASELINE = set(NUMERIC_COLUMNS) - METRIC_COLUMNS.keys()


def validate_config(config: Config) -> None:
    """Raise BadArguments with all problems if the config cannot lead to a registered version."""
    registry, columns = config.registry, evaluation_inputs.numeric_columns(config)
    has_no_reference = config.evaluation.reference is Reference.none
    problems = [
        *_single_model_problems(config.evaluation.model_uri),
        *(_reference_problems(registry, columns) if has_no_reference else ()),
        *_gate_problems(registry.gate, columns),
        *_name_problems(registry.name),
        *_stage_problems(registry),
    ]
    if problems:
        raise BadArguments("\n".join(problems))
    announcements.check(registry)


def check_rights(name: str) -> None:
    """Raise UserError if this user may not register versions of a model on its server.

    Asks with requests that are invalid and so change nothing: the server first checks the rights.
    """
    uri = mlflow.get_registry_uri()
    if not uri.startswith(("http://", "https://")):
        return
    client = MlflowClient()
    try:
        client.get_registered_model(name)
        client.set_registered_model_tag(name, "", "")
    except MlflowException as error:
        if error.error_code in registered_models.MISSING:
            _check_right_to_create(client, name)
        elif error.error_code in _DENIED:
            raise UserError(_denied(name, "its owner can give you the permission EDIT")) from error


def _check_right_to_create(client: MlflowClient, name: str) -> None:
    try:
        client.create_registered_model("")
    except MlflowException as error:
        if error.error_code in _DENIED:
            raise UserError(_denied(name, "an administrator can let you create models")) from error


def _denied(name: str, cure: str) -> str:
    user = os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    own = f"{name}-{user or 'NAME'}"
    return (
        f"registry.name={name!r}: {user or 'this account'} may not register versions of this model "
        f"on {mlflow.get_registry_uri()}: {cure}, or register under a name of your own, "
        f"registry.name={own}"
    )


def uses_unity_catalog() -> bool:
    """Return whether the model registry is Databricks Unity Catalog."""
    return bool(is_databricks_unity_catalog_uri(mlflow.get_registry_uri()))


def _single_model_problems(model_uri: str | None) -> Iterator[str]:
    if model_uri is not None:
        yield (
            f"evaluation.model_uri={model_uri!r}: a model that is evaluated alone is not "
            "registered; leave it out, or evaluate that model with -e evaluate"
        )


def _stage_problems(registry: Registry) -> Iterator[str]:
    if registry.stage is Stage.champion:
        yield (
            "registry.stage=champion promotes a version that is registered already: run it as "
            "-e register -P registry.stage=champion"
        )


def _reference_problems(registry: Registry, columns: Sequence[str]) -> Iterator[str]:
    """Yield what the config of a registration compares with the reference that it leaves out."""
    if registry.flavor is Flavor.transformers:
        yield (
            f"{_NO_REFERENCE}: there is no transformers flavor to register; leave out "
            "registry.flavor=transformers"
        )
    drops = [metric for metric, limits in registry.gate.items() if limits.max_drop is not None]
    if drops:
        keys = [f"registry.gate.{metric}.max_drop" for metric in drops]
        yield (
            f"{_NO_REFERENCE}: nothing to compare with for {', '.join(keys)}; set "
            f"{' '.join(f'{key}=null' for key in keys)}, and a min or max instead"
        )
    for metric, limits in registry.gate.items():
        if limits != Threshold() and needs_reference(metric, columns):
            yield f"{_NO_REFERENCE}: registry.gate.{metric} compares with a reference; leave it out"


def _gate_problems(gate: Mapping[str, Threshold], columns: Sequence[str]) -> Iterator[str]:
    for metric, threshold in gate.items():
        if threshold == Threshold():
            continue
        if metric not in columns:
            unknown = evaluation_inputs.describe_unknown_column(metric, columns)
            yield (
                f"registry.gate.{unknown} If {metric} is a metric of your own, name its function "
                f"in evaluation.metrics=[my_package.my_module:{metric}]"
            )
        elif threshold.max_drop is not None and metric in _WITHOUT_BASELINE:
            yield (
                f"registry.gate.{metric}.max_drop={threshold.max_drop:g}: a champion's interval "
                "bounds, p-values and differences are not stored; set min or max, or the max_drop "
                "of the metric itself"
            )


def _name_problems(name: str) -> Iterator[str]:
    parts = name.split(".")
    if uses_unity_catalog() and (len(parts) != 3 or not all(parts)):
        yield (
            f"registry.name={name!r}: the registry is Unity Catalog ({mlflow.get_registry_uri()}), "
            "whose names have three parts; set it to catalog.schema.model"
        )
