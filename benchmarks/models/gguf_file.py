"""Write a Phi-3 or Llama checkpoint as a GGUF file for llama.cpp.

python -m benchmarks.models.gguf_file /checkpoint/folder /new/model.gguf
python -m benchmarks.models.gguf_file /checkpoint/folder /new/model.gguf --type F32 --tokenizer

Q4_0 stores all matrices, embedding and LM head included, in blocks of 32 values of 4 bits. Without
a tokenizer the file takes token ids and returns logits. With SmolLM2's it can be served for chats;
other tokenizers are not supported. Needs gguf, one of
`benchmarks.harness.engines.LLAMA_CPP`.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter, SpecialVocab, TokenType
from numpy.typing import NDArray
from safetensors import safe_open
from transformers import AutoConfig, PretrainedConfig

from benchmarks.harness.command_line import create_parser, run_main
from slmflow.console import progress_bars
from slmflow.errors import UserError

_ARCHITECTURES = {"phi3": gguf.MODEL_ARCH.PHI3, "llama": gguf.MODEL_ARCH.LLAMA}

TYPES = {kind.name: kind for kind in (GGMLQuantizationType.Q4_0, GGMLQuantizationType.F32)}


def write_gguf(
    weights: Path, file: Path, kind: GGMLQuantizationType, *, with_tokenizer: bool = False
) -> None:
    """Write matrices as `kind` and norms as fp32, with one tensor in memory at a time."""
    config = AutoConfig.from_pretrained(weights)
    writer = GGUFWriter(file, gguf.MODEL_ARCH_NAMES[_ARCHITECTURES[config.model_type]])
    _add_config(writer, config)
    if with_tokenizer:
        _add_tokenizer(writer, weights)
    else:
        writer.add_tokenizer_model("none")
    _add_tensor_infos(writer, weights, config, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    with progress_bars.item_bar() as progress:
        tensors = list(_tensors(weights))
        for part, name in progress.track(tensors, description=f"{file.name}: {kind.name}"):
            with safe_open(part, "pt") as opened:
                values = opened.get_tensor(name).to(torch.float32).numpy()
            values = _with_paired_channels(name, values, config)
            writer.write_tensor_data(gguf.quantize(values, _stored_type(values.shape, kind)))
    writer.close()


def _add_config(writer: GGUFWriter, config: PretrainedConfig) -> None:
    """Add the metadata that llama.cpp needs."""
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    head_size = config.hidden_size // config.num_attention_heads
    writer.add_rope_dimension_count(getattr(config, "head_dim", None) or head_size)
    rotary: dict[str, Any] = dict(config.rope_parameters or {})
    if (rope_type := rotary.get("rope_type", "default")) != "default":
        raise UserError(f"rope_type={rope_type} is not written as GGUF: give another checkpoint")
    writer.add_rope_freq_base(rotary["rope_theta"])
    writer.add_sliding_window(getattr(config, "sliding_window", None) or 0)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: GGUFWriter, weights: Path) -> None:
    """Add the byte-level BPE and the chat template of SmolLM2."""
    tokenizer = json.loads((weights / "tokenizer.json").read_text("utf-8"))
    special = {each["id"]: each["content"] for each in tokenizer["added_tokens"] if each["special"]}
    tokens = {number: token for token, number in tokenizer["model"]["vocab"].items()} | special
    kinds = (
        TokenType.CONTROL if number in special else TokenType.NORMAL
        for number in range(len(tokens))
    )
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([tokens[number] for number in range(len(tokens))])
    writer.add_token_types(kinds)
    SpecialVocab(weights, load_merges=True).add_to_gguf(writer)


def _add_tensor_infos(
    writer: GGUFWriter, weights: Path, config: PretrainedConfig, kind: GGMLQuantizationType
) -> None:
    """Add name, shape and type of each tensor, in the order of their data."""
    architecture = _ARCHITECTURES[config.model_type]
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    for part, name in _tensors(weights):
        with safe_open(part, "pt") as opened:
            shape = tuple(opened.get_slice(name).get_shape())
        stored_type = _stored_type(shape, kind)
        size = math.prod(gguf.quant_shape_to_byte_shape(shape, stored_type))
        gguf_name = names[name.removesuffix(".weight")] + ".weight"
        writer.add_tensor_info(gguf_name, shape, np.dtype(np.float32), size, raw_dtype=stored_type)


def _with_paired_channels(
    name: str, values: NDArray[np.float32], config: PretrainedConfig
) -> NDArray[np.float32]:
    """Return the rows of a query or key projection in the order of llama.cpp's Llama.

    Its rotary embedding turns neighboring channels; transformers turns those half a head apart.
    """
    projection = name.removesuffix(".weight").rpartition(".")[2]
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    if projection not in heads:
        return values
    halves = values.reshape(heads[projection], 2, -1, values.shape[1])
    return halves.swapaxes(1, 2).reshape(values.shape)


def _tensors(weights: Path) -> Iterator[tuple[Path, str]]:
    """Yield the file and the name of each tensor of a checkpoint."""
    for part in sorted(weights.glob("*.safetensors")):
        with safe_open(part, "pt") as opened:
            for name in opened.keys():  # noqa: SIM118 (not a mapping)
                yield part, name


def _stored_type(shape: tuple[int, ...], kind: GGMLQuantizationType) -> GGMLQuantizationType:
    return kind if len(shape) > 1 else GGMLQuantizationType.F32


def _main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("file", type=Path)
    parser.add_argument("--type", choices=TYPES, default=GGMLQuantizationType.Q4_0.name)
    parser.add_argument("--tokenizer", action="store_true", help="with that of SmolLM2")
    arguments = parser.parse_args()
    kind = TYPES[arguments.type]
    write_gguf(arguments.weights, arguments.file, kind, with_tokenizer=arguments.tokenizer)


if __name__ == "__main__":
    run_main(_main)
