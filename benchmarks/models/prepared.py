"""What the benchmarks run on: random weights, and what is made of them, kept in the store.

Everything is made in a process of its own, which gives its memory back. Keys are those of the
workflow: a changed `steps/convert` or target is converted anew.
"""

import dataclasses
import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.harness import child
from benchmarks.models.shapes import SHAPES
from slmflow.config import compose
from slmflow.config.schema.target import ExporterName
from slmflow.conversion.result import OnnxModel
from slmflow.paths import PROJECT
from slmflow.pipeline import results, store
from slmflow.system.child_processes import environment

GGUF = "model.gguf"


def weights(shape: str) -> Path:
    """Return the snapshot folder of the random weights of one of `SHAPES`."""
    key = module_key("models.random_models", ("torch", "transformers"), repr(SHAPES[shape]))
    return store.get_or_build(
        "random-weights", key, lambda folder: _make("models.random_models", shape, folder)
    )


def onnx(weights: Path, target: str, exporter: ExporterName) -> Path:
    """Return the folder of the ONNX model that `steps.convert` makes of a snapshot folder."""
    composed = compose.load([f"target={target}", f"exporter={exporter.value}"])
    model = dataclasses.replace(composed.model, path=str(weights))
    key = results.key_of(OnnxModel, dataclasses.replace(composed, model=model))
    return store.get_or_build(
        "onnx",
        key,
        lambda folder: _make("harness.convert_once", weights, folder, target, exporter.value),
    )


def gguf(weights: Path) -> Path:
    """Return the GGUF file that llama.cpp reads, quantized to Q4_0; needs the gguf package."""
    key = module_key("models.gguf_file", ("gguf",), store.digest(weights))
    folder = store.get_or_build(
        "gguf", key, lambda made: _make("models.gguf_file", weights, made / GGUF)
    )
    return folder / GGUF


def _make(module: str, *arguments: object) -> None:
    line = child.command(module, *arguments)
    child.refuse_failure(line, subprocess.call(line, env=environment()))


def module_key(module: str, packages: tuple[str, ...], given: str) -> str:
    """Return a sha256 over a module's source, the versions of packages and what it is given."""
    source = store.sha256(PROJECT / "benchmarks" / f"{module.replace('.', '/')}.py")
    versions = [metadata.version(package) for package in packages]
    return hashlib.sha256("\n".join([source, *versions, given]).encode()).hexdigest()
