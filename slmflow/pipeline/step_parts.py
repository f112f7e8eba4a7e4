"""What a step's run shows of the config: the params that the step reads, and a name."""

from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

from slmflow.config import run_names
from slmflow.config.compose import flatten
from slmflow.config.schema.config import Config
from slmflow.pipeline.model_uris import REGISTERED
from slmflow.pipeline.results import FLOW, Evaluation, ModelVersion, Result

_REGISTERED = ("registry.name", "registry.alias", "target.name")
_WITHOUT_RESULT = {
    "batch": ("batch", "spark", *_REGISTERED),
    "drift": ("drift", *_REGISTERED),
    "rollback": ("registry",),
    "serve": ("serve", *_REGISTERED),
    "store": ("store",),
    "verify": ("verify", *_REGISTERED),
}


def of_step(step: str) -> tuple[str, ...]:
    """Return the keys and sections that a step reads, itself or through what it consumes."""
    if step == "main":
        return of_result(ModelVersion)
    if step == "sweep":
        return (*of_result(Evaluation), "sweep")
    kind = next((each for each in FLOW if each.step == step), None)
    return _WITHOUT_RESULT.get(step, ()) if kind is None else of_result(kind)


def of_result(kind: type[Result]) -> tuple[str, ...]:
    """Return the keys and sections that a result depends on, in the order of the data flow."""
    consumed = [part for other in kind.consumes for part in of_result(other)]
    return tuple(dict.fromkeys([*consumed, *kind.reads]))


def params(
    step: str, config: Config, swept: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """Return the values that a step reads, by key, without those that are not set.

    The model's name is always among them. swept: the text of all values, by swept key.
    """
    parts = ("model.name", *of_step(step))
    return {
        key: value
        for key, value in flatten(config, swept).items()
        if value not in (None, [], {}) and run_names.is_part(key, parts)
    }


def run_name(step: str, config: Config, swept: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return the name of a step's run: that of the step, the model, and what differs.

    A run of main has no step in its name.
    """
    if (model := _served_model(step, config)) is not None:
        return run_names.shorten(f"{step} {model}")
    if step == "store":
        return f"store {config.store.action.value}"
    name = run_names.describe(flatten(config, swept), of_step(step), swept)
    return name if step == "main" else run_names.shorten(f"{step} {name}")


def point_name(config: Config, swept: Collection[str]) -> str:
    """Return the name of a sweep's point, in which the swept keys always appear."""
    return run_names.describe(flatten(config), of_result(Evaluation), swept)


def model_name(kind: type[Result], config: Config) -> str:
    """Return the name of what a result stands for, such as a logged model, without its step."""
    return run_names.describe(flatten(config), of_result(kind))


def _served_model(step: str, config: Config) -> str | None:
    """Return the model that an application of logged models takes; None for any other step."""
    uris = {
        "batch": config.batch.model_uri,
        "drift": config.drift.model_uri,
        "evaluate": config.evaluation.model_uri,
        "measure": config.evaluation.model_uri,
        "rollback": config.registry.name,
        "serve": config.serve.model_uri,
        "verify": config.verify.model_uri,
    }
    if uris.get(step) != REGISTERED:
        return uris.get(step)
    return f"{config.registry.name}@{config.registry.alias}"
