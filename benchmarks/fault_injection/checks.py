"""What must hold when a step has run after another was killed: all of it is looked at anew."""

import hashlib
import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModelStatus, Run

from benchmarks.fault_injection.killing import Place
from slmflow.pipeline import results, store

# Times and figures that differ from run to run, and the sums of files that have some.
_OTHERWISE = ("MLmodel", "conversion.json", store.MANIFEST, "provenance.json", "files.json")
_QUALITY = ("flavor", "n", "exact_match", "token_f1", "rouge_l", "bleu", "agreement")


def told(place: Place, step: str) -> Any:
    """Return what the newest finished run of a step has made, without what differs each time."""
    run = place.newest(step)
    result = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{results.FILE}")
    return _READ[step](place, result)


def faults(place: Place, usual: Collection[Path]) -> Iterator[str]:
    """Yield what a dead process has left behind, or what is half-made.

    usual: what runs that nobody ended leave in the temporary files, such as torch's cache.
    """
    for run in place.client.search_runs(["0"], "attributes.status = 'RUNNING'"):
        yield f"run {run.info.run_id} is RUNNING"
    for model in place.client.search_logged_models(["0"]):
        if model.status == LoggedModelStatus.PENDING:
            yield f"model {model.model_id} is PENDING"
    for file in {*place.temp.iterdir()} - {*usual}:
        yield f"{file} is left in the temporary files"
    for folder in ("building", "downloads"):
        yield from (f"{file} is left" for file in (place.home / folder).glob("*"))
    for lock in (place.home / "locks").iterdir():
        if lock.name.startswith(("run-", "scratch-")):
            yield f"{lock} is left"
    for kind in ("weights", "onnx"):
        yield from _broken(place.home / kind)


def _broken(kind: Path) -> Iterator[str]:
    for entry in kind.glob("*"):
        try:
            store.verify(entry)
        except store.Broken as broken:
            yield str(broken)


def _entry(_: Place, result: dict[str, Any]) -> Any:
    sums = store.manifest(Path(result["path"]))
    return {name: digest for name, digest in sums.items() if name not in _OTHERWISE}


def _model(_: Place, result: dict[str, Any]) -> Any:
    folder = Path(mlflow.artifacts.download_artifacts(result["model_uri"]))
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in _OTHERWISE
    }


def _answers(_: Place, result: dict[str, Any]) -> Any:
    kept = mlflow.artifacts.load_dict(f"runs:/{result['run_id']}/measurements.json")
    return [[answer["text"] for answer in model["answers"]] for model in kept["models"]]


def _figures(_: Place, result: dict[str, Any]) -> Any:
    table = mlflow.artifacts.load_dict(f"runs:/{result['run_id']}/comparison.json")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    return [[row[name] for name in _QUALITY] for row in rows]


def _version(place: Place, result: dict[str, Any]) -> Any:
    """Which flavor is the faster may change; its version is whole and has the alias."""
    version = place.client.get_model_version_by_alias(result["name"], result["alias"])
    every = place.client.search_model_versions(f"name='{result['name']}'")
    sources = [each.source for each in every]
    return json.dumps(
        {
            "is the result's": str(version.version) == result["version"],
            "ready": {each.status for each in every} == {"READY"},
            "one version a model": len(sources) == len(set(sources)),
            "described": bool(version.description and version.tags),
        }
    )


_READ: dict[str, Callable[[Place, dict[str, Any]], Any]] = {
    "fetch": _entry,
    "convert": _entry,
    "log_transformers": _model,
    "log_genai": _model,
    "measure": _answers,
    "evaluate": _figures,
    "register": _version,
}

STEPS = tuple(_READ)


def run_began_after(run: Run, started: float) -> float:
    """Return the seconds from a time of `time.time()` until a run began."""
    return float(run.info.start_time) / 1e3 - started
