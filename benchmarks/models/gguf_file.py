"""Write a Phi-3 snapshot folder as the GGUF file that llama.cpp reads.

python -m benchmarks.models.gguf_file /folder/of/weights /file/to/make.gguf
python -m benchmarks.models.gguf_file /folder/of/weights /file/to/make.gguf --type F32

In Q4_0 all matrices are blocks of 32 values of 4 bits, the embedding and the LM head too. The file
holds no tokenizer: it is for token ids in and logits out. Needs gguf, one of
`benchmarks.harness.engines.LLAMA_CPP`.
"""

import math
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors import safe_open
from transformers import Phi3Config

from benchmarks.harness.command_line import parser, run
from slmflow.console import messages

TYPES = {kind.name: kind for kind in (GGMLQuantizationType.Q4_0, GGMLQuantizationType.F32)}


def write(weights: Path, file: Path, kind: GGMLQuantizationType) -> None:
    """Write matrices as `kind` and norms as fp32; one tensor is in memory at a time."""
    config = Phi3Config.from_pretrained(weights)
    writer = GGUFWriter(file, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.PHI3])
    _describe(writer, config)
    _announce(writer, weights, config.num_hidden_layers, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with messages.counting() as progress:
        tensors = list(_tensors(weights))
        for part, name in progress.track(tensors, description=f"{file.name}: {kind.name}"):
            with safe_open(part, "pt") as opened:
                values = opened.get_tensor(name).to(torch.float32).numpy()
            writer.write_tensor_data(gguf.quantize(values, _stored(values.shape, kind)))
    writer.close()


def _describe(writer: GGUFWriter, config: Phi3Config) -> None:
    """Write what llama.cpp must know of the model."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_sliding_window(config.sliding_window or 0)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)


def _announce(writer: GGUFWriter, weights: Path, layers: int, kind: GGMLQuantizationType) -> None:
    """Enter name, shape and type of each tensor, in the order their data follow in."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.PHI3, layers)
    for part, name in _tensors(weights):
        with safe_open(part, "pt") as opened:
            shape = tuple(opened.get_slice(name).get_shape())
        stored = _stored(shape, kind)
        size = math.prod(gguf.quant_shape_to_byte_shape(shape, stored))
        known = names[name.removesuffix(".weight")] + ".weight"
        writer.add_tensor_info(known, shape, np.dtype(np.float32), size, raw_dtype=stored)


def _tensors(weights: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the name of each tensor of a snapshot."""
    for part in sorted(weights.glob("*.safetensors")):
        with safe_open(part, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (it is no mapping)
                yield part, name


def _stored(shape: tuple[int, ...], kind: GGMLQuantizationType) -> GGMLQuantizationType:
    return kind if len(shape) > 1 else GGMLQuantizationType.F32


def _main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("weights", type=Path)
    arguments.add_argument("file", type=Path)
    arguments.add_argument("--type", choices=TYPES, default=GGMLQuantizationType.Q4_0.name)
    given = arguments.parse_args()
    write(given.weights, given.file, TYPES[given.type])


if __name__ == "__main__":
    run(_main)
