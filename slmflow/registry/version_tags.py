"""Lineage and metrics of a version, as its tags.

`slmflow_key_*` and `slmflow_run_*` are the keys and runs of the steps behind the version.
`slmflow_digest_*` are the digests of their files in the store, and MLflow's digest of the
evaluation data. `slmflow_model_*` are the hub id and revision, the folder, or the URI and the id of
the model in MLflow, and the file of its chat template; `slmflow_chat_template` is `none` for a base
model. `slmflow_machine` stands for the hardware that the timings are of. The others are columns of
the comparison, e.g. `slmflow_exact_match`. Names have no dots, and the number and length of tags
stay far below Unity Catalog's limits of 50 tags and 1,000 characters.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import suppress

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from slmflow.flavors import lineage
from slmflow.flavors.chat_interfaces import is_base_model
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import METRIC_COLUMNS, ModelMetrics
from slmflow.pipeline import manifests, runs
from slmflow.pipeline.manifests import BrokenEntry
from slmflow.pipeline.registered_models import TAG_PREFIX
from slmflow.pipeline.results import Evaluation, LoggedModel, Result, StoredResult
from slmflow.pipeline.step import Step
from slmflow.system import machine


def build_tags(
    step: Step,
    comparison: Comparison,
    candidate: ModelMetrics,
    existing: ModelVersion | None = None,
) -> dict[str, str]:
    """Return the tags of the version of a candidate.

    existing: the version that it is already; the run that logged its model stays.
    """
    model = step.config.model
    values = {
        f"model_{part}": getattr(model, part) for part in ("id", "revision", "path", "template")
    }
    source = lineage.origin(model)
    values |= {"model_uri": source.get("uri"), "model_logged_id": source.get("model_id")}
    values |= {f"model_{part}": source[part] for part in ("id", "revision") if part in source}
    for kind in _result_types_behind(candidate.flavor):
        values |= _step_tags(step, kind)
    if is_base_model(Model.load(candidate.model_uri)):
        values["chat_template"] = "none"
    values |= {"run_register": step.run.info.run_id, "run_evaluate": comparison.run_id}
    values["digest_data"] = dataset_digest(comparison)
    values |= {name: getattr(candidate, name) for name in ("flavor", "target", "exporter")}
    values["machine"] = machine.digest() if candidate.timed_rows else None
    values |= {name: getattr(candidate, name) for name in METRIC_COLUMNS} | candidate.user_metrics
    if existing and existing.source != candidate.model_uri:
        values["run_log_" + candidate.flavor] = existing.run_id
    known = {name: str(value) for name, value in values.items() if value is not None}
    return {TAG_PREFIX + name: value for name, value in known.items() if value}


def key_tag(step: Step, flavor: str) -> tuple[str, str] | None:
    """Return the name and value of the tag that tells which logged model of a flavor it is.

    None if the model is made anew: another model with its key does not count.
    """
    kind = next(each for each in _result_types_behind(flavor) if issubclass(each, LoggedModel))
    if step.is_made_anew(kind):
        return None
    return f"{TAG_PREFIX}key_{kind.step}", step.key(kind)


def read_metrics(tags: Mapping[str, str], comparison: Comparison) -> dict[str, float]:
    """Return the metrics of the comparison that a version's tags hold as finite numbers."""
    metrics = {}
    for name in (*METRIC_COLUMNS, *comparison.models[0].user_metrics):
        try:
            value = float(tags[TAG_PREFIX + name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(value):
            metrics[name] = value
    return metrics


def has_timings_of_this_machine(tags: Mapping[str, str]) -> bool:
    """Return whether a version was timed on this machine; one of an earlier slmflow was not."""
    return tags.get(f"{TAG_PREFIX}machine") == machine.digest()


def has_same_rows(tags: Mapping[str, str], comparison: Comparison) -> bool:
    """Return whether a version was measured on the rows of this comparison."""
    digest = dataset_digest(comparison)
    return (
        bool(digest)
        and digest == tags.get(f"{TAG_PREFIX}digest_data")
        and read_metrics(tags, comparison).get("n") == float(comparison.models[0].n)
    )


def dataset_digest(comparison: Comparison) -> str:
    """Return MLflow's digest of the evaluation data; empty if the run logged no dataset."""
    run = MlflowClient().get_run(comparison.run_id)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return " ".join(
        sorted(
            logged.dataset.digest
            for logged in inputs
            if any(t.key == MLFLOW_DATASET_CONTEXT and t.value == "evaluation" for t in logged.tags)
        )
    )


def _result_types_behind(flavor: str) -> Iterator[type[Result]]:
    """Yield the results behind a version of a flavor, from the evaluation back to the weights."""
    seen: set[type[Result]] = set()
    pending: list[type[Result]] = [Evaluation]
    while pending:
        kind = pending.pop(0)
        if kind in seen or (issubclass(kind, LoggedModel) and kind.flavor != flavor):
            continue
        yield kind
        seen.add(kind)
        pending += kind.consumes


def _step_tags(step: Step, kind: type[Result]) -> dict[str, str]:
    key = step.key(kind)
    tags = {f"key_{kind.step}": key}
    if run_id := runs.newest_run_id(kind, key, step.run.info.experiment_id):
        tags[f"run_{kind.step}"] = run_id
        if issubclass(kind, StoredResult):
            with suppress(BrokenEntry):  # another user's store has it
                manifest = manifests.read(runs.load_result(kind, run_id).folder)
                tags[f"digest_{kind.step}"] = manifest.digest
    return tags
