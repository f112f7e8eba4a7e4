"""The texts that the parity check runs through the original and the converted model."""

PROBES = (
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
