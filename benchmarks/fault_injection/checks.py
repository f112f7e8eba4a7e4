"""Check a step's output and what a killed step left behind."""

import hashlib
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import LoggedModelStatus

from benchmarks.fault_injection.sandbox import Sandbox
from slmflow.pipeline import manifests, results, store

# Files with times and other values that differ between runs, and files with their checksums.
_VARYING_FILES = ("MLmodel", "conversion.json", store.MANIFEST, "provenance.json", "files.json")
_QUALITY_COLUMNS = ("flavor", "n", "exact_match", "token_f1", "rouge_l", "bleu", "agreement")


def read_output(sandbox: Sandbox, step: str) -> Any:
    """Return the output of the newest finished run of a step, without values that vary.

    That of `main` is the output of all steps.
    """
    run = sandbox.newest_run(step)
    if step == MAIN:
        return {each: read_output(sandbox, each) for each in _READERS}
    result = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{results.FILE}")
    return _READERS[step](sandbox, result)


def find_faults(sandbox: Sandbox, expected_files: Collection[Path]) -> Iterator[str]:
    """Yield what killed processes left behind or incomplete.

    expected_files: temporary files that undisturbed runs leave too, such as torch's cache.
    """
    for run in sandbox.client.search_runs(["0"], "attributes.status = 'RUNNING'"):
        yield f"run {run.info.run_id} is RUNNING"
    for model in sandbox.client.search_logged_models(["0"]):
        if model.status == LoggedModelStatus.PENDING:
            yield f"model {model.model_id} is PENDING"
    for file in {*sandbox.temp.iterdir()} - {*expected_files}:
        yield f"{file} is left in the temporary files"
    for folder in ("building", "downloads"):
        yield from (f"{file} is left" for file in (sandbox.home / folder).glob("*"))
    for lock in (sandbox.home / "locks").iterdir():
        if lock.name.startswith(("run-", "scratch-")):
            yield f"{lock} is left"
    for kind in ("weights", "onnx"):
        for entry in (sandbox.home / kind).glob("*"):
            try:
                manifests.verify(entry)
            except manifests.BrokenEntry as broken:
                yield str(broken)


def _read_entry(_: Sandbox, result: dict[str, Any]) -> Any:
    manifest = manifests.checksums(store.home() / result["path"])
    return {name: digest for name, digest in manifest.items() if name not in _VARYING_FILES}


def _read_model(_: Sandbox, result: dict[str, Any]) -> Any:
    folder = Path(mlflow.artifacts.download_artifacts(result["model_uri"]))
    return {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name not in _VARYING_FILES
    }


def _read_answers(_: Sandbox, result: dict[str, Any]) -> Any:
    measurements = mlflow.artifacts.load_dict(f"runs:/{result['run_id']}/measurements.json")
    return [[answer["text"] for answer in model["answers"]] for model in measurements["models"]]


def _read_quality(_: Sandbox, result: dict[str, Any]) -> Any:
    table = mlflow.artifacts.load_dict(f"runs:/{result['run_id']}/comparison.json")
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    return [[row[name] for name in _QUALITY_COLUMNS] for row in rows]


def _read_version(sandbox: Sandbox, result: dict[str, Any]) -> Any:
    """Return whether the version is complete; which flavor is better may vary with latency."""
    version = sandbox.client.get_model_version_by_alias(result["name"], result["alias"])
    versions = sandbox.client.search_model_versions(f"name='{result['name']}'")
    sources = [each.source for each in versions]
    return {
        "alias points to the result": str(version.version) == result["version"],
        "all versions are ready": {each.status for each in versions} == {"READY"},
        "one version per model": len(sources) == len(set(sources)),
        "described": bool(version.description and version.tags),
    }


_READERS: dict[str, Callable[[Sandbox, dict[str, Any]], Any]] = {
    "fetch": _read_entry,
    "convert": _read_entry,
    "log_transformers": _read_model,
    "log_genai": _read_model,
    "measure": _read_answers,
    "evaluate": _read_quality,
    "register": _read_version,
}

MAIN = "main"
STEPS = (*_READERS, MAIN)
