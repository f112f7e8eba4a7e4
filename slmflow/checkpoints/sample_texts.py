"""Texts on which two tokenizers are compared: what tokenizers are known to disagree on."""

TEXTS = (
    "The quick brown fox jumps over 13 lazy dogs.",
    "def add(a: int, b: int) -> int:\n    return a + b\n",
    "",
    " ",
    "  two leading, two  inner and two trailing  ",
    "First line\n\n\nFourth line\t\twith tabs\r\nand a carriage return",
    "1234567890, 3.14159 and 22/7",
    # The same words in Unicode's composed and decomposed forms.
    "Caf\u00e9 Zu\u0308rich \u1e69 s\u0323\u0307 \u1112\u1161\u11ab\u1100\u1173\u11af",
    # No-break and ideographic spaces, zero width space and joiner, a soft hyphen.
    "10\u00a0000\u202f€\u3000x\u200by\u200dz\u00adw",
    "\ufb01ne \u2460 \u00bd \uff21\uff22 \u2126 \u212b",  # what NFKC would replace
    "東京は日本の首都です。 Москва — столица России. القاهرة",
    "Emoji: 🙂🚀 and a family: 👨‍👩‍👧",
    "don't, WON'T, I'LL, it’s",  # noqa: RUF001
    "https://example.org/path?query=value#fragment",
)
