"""A tokenizer of 1,024 tokens like Phi-3's: SentencePiece-style BPE with byte fallback.

The layout of `tokenizer.json` follows Phi-3's: `▁` prepended and in place of spaces, no
pre-tokenizer, byte tokens for characters without a token, and the chat tokens at the end of the
vocabulary. No merge crosses a space or joins a letter and a punctuation mark: ONNX Runtime GenAI's
tokenizer does not apply such merges, so its ids would differ from those of transformers.
"""

import json
import string
from collections.abc import Iterable
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from tokenizers.trainers import BpeTrainer
from transformers import LlamaTokenizerFast

VOCAB_SIZE = 1024
CONTEXT = 512
UNKNOWN, START = "<unk>", "<s>"
BASE_TOKENS = [UNKNOWN, START, "</s>"]
END_OF_TEXT, ASSISTANT, END = "<|endoftext|>", "<|assistant|>", "<|end|>"
CHAT_TOKENS = [
    END_OF_TEXT,
    ASSISTANT,
    *(f"<|placeholder{number}|>" for number in range(1, 5)),
    "<|system|>",
    END,
    "<|placeholder5|>",
    "<|placeholder6|>",
    "<|user|>",
]
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}"
    "{{'<|system|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'user' %}"
    "{{'<|user|>\n' + message['content'] + '<|end|>\n'}}"
    "{% elif message['role'] == 'assistant' %}"
    "{{'<|assistant|>\n' + message['content'] + '<|end|>\n'}}"
    "{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
)


def build_tokenizer(texts: Iterable[str]) -> LlamaTokenizerFast:
    """Train the merges on the texts and return a tokenizer with Phi-3's settings."""
    vocabulary, merges = _train_merges(texts)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, merges, unk_token=UNKNOWN, fuse_unk=True, byte_fallback=True)
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens(
        [
            AddedToken(
                token, normalized=False, rstrip=token in CHAT_TOKENS and token != END_OF_TEXT
            )
            for token in [*BASE_TOKENS, *CHAT_TOKENS]
        ]
    )
    return LlamaTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=START,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=UNKNOWN,
        add_bos_token=False,
        add_eos_token=False,
        legacy=False,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=CONTEXT,
        chat_template=CHAT_TEMPLATE,
    )


def _train_merges(texts: Iterable[str]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return the vocabulary and merges of a BPE trained word by word: no merge crosses a space."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Punctuation("isolated")]
    )
    trainer = BpeTrainer(
        vocab_size=VOCAB_SIZE - len(CHAT_TOKENS),
        special_tokens=[*BASE_TOKENS, *(f"<0x{byte:02X}>" for byte in range(256))],
        initial_alphabet=[*string.ascii_letters, *string.digits, *string.punctuation],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    trained = json.loads(tokenizer.to_str())["model"]
    return trained["vocab"], [tuple(pair) for pair in trained["merges"]]


def save_tokenizer(tokenizer: LlamaTokenizerFast, folder: Path) -> None:
    """Write the tokenizer's files, with the chat template in `tokenizer_config.json`."""
    tokenizer.save_pretrained(folder, save_jinja_files=False)
