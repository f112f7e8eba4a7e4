"""Write a checkpoint of random weights with the shape of a real model.

python -m benchmarks.models.random_models phi3_220m /new/folder
python -m benchmarks.models.random_models phi3_mini /new/folder      # 3.8 B parameters, 7.6 GB

Speed and memory depend on shapes, not on the values of weights. Tokenizer, chat template and token
ids are those of the bundled tiny Phi-3, so random models generate nonsense from its 1,024 tokens
and from ids without a token. The same shape gives the same bytes on every run.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, Phi3Config

from benchmarks.harness.command_line import create_parser, run_main
from benchmarks.models.shapes import SHAPES, Shape
from slmflow.console import progress_bars
from slmflow.errors import BadArguments
from slmflow.paths import PROJECT

BUNDLED = PROJECT / "bundled" / "tiny_phi3"
COPIED = (
    "generation_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)

DTYPE = torch.bfloat16
SHARD_BYTES = 1_000_000_000


def write_random_model(shape: Shape, folder: Path, shard_bytes: int = SHARD_BYTES) -> None:
    """Write config, tokenizer and bf16 weights into `folder`, one shard in memory at a time."""
    config = phi3_config(shape)
    config.save_pretrained(folder)
    for name in COPIED:
        shutil.copyfile(BUNDLED / name, folder / name)
    shapes = tensor_shapes(config)
    shards = list(_shards(shapes, shard_bytes))
    files: dict[str, str] = {}
    total = sum(_bytes(tensor) for tensor in shapes.values())
    with progress_bars.byte_bar() as progress:
        task = progress.add_task("random weights", total=total)
        for number, names in enumerate(shards, start=1):
            file = f"model-{number:05}-of-{len(shards):05}.safetensors"
            tensors = {}
            for name in names:
                tensors[name] = _random(name, shapes[name], config.initializer_range)
                progress.advance(task, _bytes(shapes[name]))
            save_file(tensors, folder / file, metadata={"format": "pt"})
            files |= dict.fromkeys(names, file)
    index = {"metadata": {"total_size": total}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))


def phi3_config(shape: Shape) -> Phi3Config:
    """Return the config of the transformers model, with the token ids of the bundled one."""
    return Phi3Config.from_pretrained(
        BUNDLED,
        num_hidden_layers=shape.layers,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        vocab_size=shape.vocabulary,
        max_position_embeddings=shape.context_length,
        original_max_position_embeddings=shape.context_length,
        sliding_window=shape.sliding_window,
        dtype=DTYPE,
    )


def tensor_shapes(config: Phi3Config) -> dict[str, torch.Size]:
    """Return the shape of each tensor of the transformers model by its name in a checkpoint."""
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return {name: tensor.shape for name, tensor in model.state_dict().items()}


def _shards(shapes: Mapping[str, torch.Size], limit: int) -> Iterator[list[str]]:
    """Yield the tensor names of each shard, in order, with at most `limit` bytes per shard."""
    names: list[str] = []
    size = 0
    for name, shape in shapes.items():
        if names and size + _bytes(shape) > limit:
            yield names
            names, size = [], 0
        names.append(name)
        size += _bytes(shape)
    yield names


def _bytes(shape: torch.Size) -> int:
    return shape.numel() * DTYPE.itemsize


def _random(name: str, shape: torch.Size, scale: float) -> torch.Tensor:
    """Return ones for a norm, else normal values of deviation `scale`, seeded by the name."""
    if len(shape) == 1:
        return torch.ones(shape, dtype=DTYPE)
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little", signed=True)
    generator = torch.Generator().manual_seed(seed)
    return torch.empty(shape).normal_(std=scale, generator=generator).to(DTYPE)


def main() -> None:
    """Write the checkpoint that the command line names."""
    parser = create_parser(__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path, help="new or empty folder")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    if any(arguments.folder.iterdir()):
        raise BadArguments(f"{arguments.folder} is not empty: choose a new folder")
    write_random_model(SHAPES[arguments.shape], arguments.folder)


if __name__ == "__main__":
    run_main(main)
