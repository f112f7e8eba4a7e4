"""A model too small to be of use: random weights and a tokenizer of one word."""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save

CONFIG = json.dumps({"model_type": "phi3", "vocab_size": 2}).encode()
TOKENIZER = json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {"a": 0}}})

# What fetch takes of `whole()`.
TAKEN = {"config.json", "model.safetensors", "tokenizer.json", "README.md", "LICENSE"}


def weights(kilobytes: int, seed: int = 0) -> bytes:
    """Return a safetensors file with one random tensor of this size."""
    values = np.random.default_rng(seed).integers(0, 256, kilobytes * 1024, dtype=np.uint8)
    return save({f"layer.{seed}": values})


def whole() -> dict[str, bytes]:
    """Return a model in one weights file, among files that must not be taken."""
    return {
        "config.json": CONFIG,
        "model.safetensors": weights(900),
        "tokenizer.json": TOKENIZER.encode(),
        "README.md": b"# A model\n",
        "LICENSE": b"MIT\n",
        "modeling_phi3.py": b"raise SystemExit('remote code ran')\n",
        "pytorch_model.bin": b"\x80\x04.",
        "onnx/model.safetensors": b"another layout",
    }


def in_parts() -> dict[str, bytes]:
    """Return a model in two weights files and their index."""
    first, second = (f"model-0000{i}-of-00002.safetensors" for i in (1, 2))
    return {
        "config.json": CONFIG,
        "model.safetensors.index.json": index({"layer.1": first, "layer.2": second}),
        first: weights(20, seed=1),
        second: weights(20, seed=2),
        "tokenizer.json": TOKENIZER.encode(),
    }


def index(weight_map: dict[str, str]) -> bytes:
    """Return an index file."""
    return json.dumps({"metadata": {}, "weight_map": weight_map}).encode()


def lay(folder: Path, content: dict[str, bytes]) -> Path:
    """Write a model to a folder and return the folder."""
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder
