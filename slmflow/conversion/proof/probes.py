"""Probe texts that parity runs through the reference and the converted model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

TEXTS = (
    "What is the capital of France?",
    "Explain in two sentences why the sky is blue.",
    "Write a haiku about autumn rain.",
    "List three primes greater than 100, separated by commas.",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    'Translate to German: "Good morning, how are you?"',
    "São Tomé, Côte d'Ivoire, Zürich, Łódź, Reykjavík",
    "東京は日本の首都です。 Москва — столица России.",
    "1 + 1 = 2; 3.14159 < 22/7; 10^6 = 1,000,000",
    "  leading, trailing and   repeated spaces  ",
    "First line\n\nThird line\twith a tab",
    "Emoji: 🙂🚀 and a family: 👨‍👩‍👧",
    '{"role": "user", "content": [1, 2, 3]}',
    "https://example.org/path?query=value#fragment",
    "ALLCAPS lowercase MixedCase snake_case kebab-case",
    "The quick brown fox jumps over the lazy dog. " * 6,
)


@dataclass(frozen=True)
class Probe:
    """A text and its tokens by the reference's tokenizer.

    prompt: the text as a user turn in the chat template; text_ids, prompt_ids: token ids of both.
    """

    text: str
    prompt: str
    text_ids: list[int]
    prompt_ids: list[int]


def build_probes(tokenizer: Any, texts: Sequence[str] = TEXTS) -> list[Probe]:
    """Tokenize texts with transformers; only the chat template adds special tokens."""
    turns = [[{"role": "user", "content": text}] for text in texts]
    prompts = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    ids = tokenizer([*texts, *prompts], add_special_tokens=False).input_ids
    return list(map(Probe, texts, prompts, ids, ids[len(texts) :]))
