"""Probe texts that parity runs through the reference and the converted model."""

from collections.abc import Sequence
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


def build_prompts(tokenizer: Any, texts: Sequence[str] = TEXTS) -> list[list[int]]:
    """Return the token ids of texts as user turns in the chat template, by transformers.

    Without a template, or if it rejects them, the ids are those of the texts themselves, with the
    special tokens of the tokenizer.
    """
    turns = [[{"role": "user", "content": text}] for text in texts]
    try:
        ids: list[list[int]] = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_dict=False
        )
    except Exception:  # a template may raise anything
        ids = tokenizer(list(texts)).input_ids
    return ids
