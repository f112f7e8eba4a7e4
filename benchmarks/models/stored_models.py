"""Random weights and the models built from them, kept in the store.

Each is built in a child process, whose memory is free again when it ends. The keys of ONNX models
are those of the workflow, so a change of the conversion or of a target builds them again.
"""

import dataclasses
import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks.harness import child_process
from benchmarks.harness.installation import CURRENT
from benchmarks.models.shapes import SHAPES
from slmflow.config import compose
from slmflow.config.schema.target import ExporterName
from slmflow.paths import PROJECT
from slmflow.pipeline import digests, entries, keys
from slmflow.pipeline.results import OnnxModel
from slmflow.system.child_processes import environment

GGUF_FILE = "model.gguf"


def random_weights(shape: str) -> Path:
    """Return a checkpoint of random weights of one of `SHAPES`."""
    key = module_key("models.random_models", ("torch", "transformers"), repr(SHAPES[shape]))
    return entries.get_or_build(
        "random-weights", key, lambda folder: _run("models.random_models", shape, folder)
    )


def smollm2(*, with_noise: bool = True) -> Path:
    """Return SmolLM2-135M-Instruct from a package; needs the gguf package.

    with_noise: takes the weights off the 4-bit grid of the package, for comparisons of rounding.
    """
    options = [] if with_noise else ["--packaged-weights"]
    key = module_key("models.smollm2", ("gguf", "torch", "transformers"), " ".join(options))
    return entries.get_or_build(
        "real-weights", key, lambda folder: _run("models.smollm2", folder, *options)
    )


def onnx_model(weights: Path, target: str, exporter: ExporterName) -> Path:
    """Return the ONNX model that `steps.convert` builds from a checkpoint."""
    config = compose.load([f"target={target}", f"exporter={exporter.value}"])
    model = dataclasses.replace(config.model, path=str(weights))
    key = keys.key_of(OnnxModel, dataclasses.replace(config, model=model))
    return entries.get_or_build(
        "onnx",
        key,
        lambda folder: _run("harness.convert_once", weights, folder, target, exporter.value),
    )


def gguf_model(weights: Path, kind: str = "Q4_0") -> Path:
    """Return the GGUF file of a checkpoint for llama.cpp; needs the gguf package.

    kind: Q4_0 or F32.
    """
    key = module_key("models.gguf_file", ("gguf",), f"{digests.of_path(weights)} {kind}")
    folder = entries.get_or_build(
        "gguf",
        key,
        lambda building: _run("models.gguf_file", weights, building / GGUF_FILE, "--type", kind),
    )
    return folder / GGUF_FILE


def _run(module: str, *arguments: object) -> None:
    command = CURRENT.command(module, *arguments)
    child_process.check_exit(command, subprocess.call(command, env=environment()))


def module_key(module: str, packages: tuple[str, ...], arguments: str) -> str:
    """Return a sha256 over a module's source, package versions and its arguments."""
    source = digests.sha256(PROJECT / "benchmarks" / f"{module.replace('.', '/')}.py")
    versions = [metadata.version(package) for package in packages]
    return hashlib.sha256("\n".join([source, *versions, arguments]).encode()).hexdigest()
