"""Where a version comes from and how good it is, as tags of the version.

`slmflow_key_*` and `slmflow_run_*` are the keys and runs of the steps that led to the version,
`slmflow_digest_*` sha256 sums of the manifests of what they put in the store and MLflow's digest of
the evaluation data, `slmflow_model_*` the hub's id and revision or the folder, and the rest the
columns of the comparison, e.g. `slmflow_exact_match`. Names have no dots, and the whole is far
below 50 tags of 1,000 characters, as Unity Catalog wants.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import METRIC_COLUMNS, ModelMetrics
from slmflow.pipeline import runs, store
from slmflow.pipeline.registered_models import TAG_PREFIX
from slmflow.pipeline.results import Evaluation, LoggedModel, Result, StoredResult
from slmflow.pipeline.step import Step


def tags(step: Step, comparison: Comparison, row: ModelMetrics) -> dict[str, str]:
    """Return the tags of a version of one flavor of an evaluation."""
    model = step.config.model
    found = {f"model_{part}": getattr(model, part) for part in ("id", "revision", "path")}
    for kind in _chain(row.flavor):
        found |= _of_step(step, kind)
    found |= {"run_register": step.run.info.run_id, "run_evaluate": comparison.run_id}
    found["digest_data"] = data_digest(comparison)
    found |= {name: getattr(row, name) for name in ("flavor", "target", "exporter")}
    found |= {name: getattr(row, name) for name in METRIC_COLUMNS} | row.further
    known = {name: str(v) for name, v in found.items() if v is not None}
    return {TAG_PREFIX + name: value for name, value in known.items() if value}


def figures(version_tags: Mapping[str, str], comparison: Comparison) -> dict[str, float]:
    """Return of an evaluation's figures those in a version's tags; no number: not measured."""
    found = {}
    for name in (*METRIC_COLUMNS, *comparison.figures[0].further):
        try:
            figure = float(version_tags[TAG_PREFIX + name])
        except (KeyError, ValueError):
            continue
        if math.isfinite(figure):
            found[name] = figure
    return found


def same_rows(version_tags: Mapping[str, str], comparison: Comparison) -> bool:
    """Return whether a version was measured on the rows of this evaluation."""
    digest, rows = data_digest(comparison), float(comparison.figures[0].n)
    noted = version_tags.get(f"{TAG_PREFIX}digest_data")
    return bool(digest) and digest == noted and figures(version_tags, comparison).get("n") == rows



def data_digest(comparison: Comparison) -> str:
    """Return MLflow's digest of the rows that were asked, empty where the run has none."""
    run = MlflowClient().get_run(comparison.run_id)
    inputs = run.inputs.dataset_inputs if run.inputs else []
    return " ".join(
        sorted(
            logged.dataset.digest
            for logged in inputs
            if any(t.key == MLFLOW_DATASET_CONTEXT and t.value == "evaluation" for t in logged.tags)
        )
    )


def _chain(flavor: str) -> Iterator[type[Result]]:
    """Yield the evaluation, and what led to the model of a flavor, the weights last."""
    kind: type[Result] = Evaluation
    yield kind
    seen: set[type[Result]] = {kind}
    pending = list(kind.consumes)
    while pending:
        kind = pending.pop(0)
        if kind in seen or (issubclass(kind, LoggedModel) and kind.flavor != flavor):
            continue
        yield kind
        seen.add(kind)
        pending += kind.consumes


def _of_step(step: Step, kind: type[Result]) -> dict[str, str]:
    key = step.key(kind)
    found = {f"key_{kind.step}": key}
    if run_id := runs.newest(kind, key, step.run.info.experiment_id):
        found[f"run_{kind.step}"] = run_id
        if issubclass(kind, StoredResult):
            manifest = Path(runs.load_result(kind, run_id).path) / store.MANIFEST
            found[f"digest_{kind.step}"] = store.sha256(manifest) if manifest.is_file() else ""
    return found
