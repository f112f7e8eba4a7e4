"""What the text metrics compare: normalized texts, and their words in any script.

`normalize` applies to every metric but the strict ones. A script that puts no spaces between words
(Chinese, Japanese, Thai, Khmer and others; not Korean) and emoji are compared by character, more
precisely by grapheme: a base with its marks.
"""

import unicodedata

import regex

_UNSPACED_SCRIPTS = (
    *("Han", "Hiragana", "Katakana", "Bopomofo", "Yi", "Nushu", "Tangut", "Khitan_Small_Script"),
    *("Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Tai_Le", "New_Tai_Lue", "Tai_Tham"),
    *("Tai_Viet", "Ahom", "Javanese", "Balinese"),
)
# The sound marks of Katakana belong to no script of their own.
_UNSPACED = (
    "".join(rf"\p{{{script}}}" for script in _UNSPACED_SCRIPTS)
    + r"\u30fc\uff70\uff9e\uff9f\p{Emoji_Presentation}\p{Regional_Indicator}"
)
_GRAPHEME = rf"(?=[{_UNSPACED}])\X"

# Soft hyphens, zero-width spaces, marks of direction and of byte order. Joiners are not among them,
# as they change what is read in Persian, in scripts of India and between emoji.
_INVISIBLE = regex.compile(
    r"[\u00ad\u061c\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
_SPACES = regex.compile(r"[\u1361[\p{White_Space}--\p{ASCII}]]", regex.V1)  # U+1361: Ethiopic

# `string.punctuation` includes symbols, which have wide forms too.
_PUNCTUATION = regex.compile(
    r"[\p{P}$+<=>^`|~\uff04\uff0b\uff1c-\uff1e\uff3e\uff40\uff5c\uff5e\uffe3]"
)
_WIDE_PUNCTUATION = r"[\p{P}\p{S}&&[\p{East_Asian_Width=W}\p{East_Asian_Width=F}]]"
_FULL_STOPS = ".。．｡।۔։።။។།᠃"  # noqa: RUF001
_ARTICLES = {"a", "an", "the"}

_UNSPACED_GRAPHEME = regex.compile(_GRAPHEME)
_SEPARATED = regex.compile(rf"{_GRAPHEME}|{_WIDE_PUNCTUATION}", regex.V1)
_ALPHANUMERIC = regex.compile(rf"{_GRAPHEME}|(?:(?![{_UNSPACED}])[\p{{L}}\p{{M}}\p{{N}}])+")


def normalize(text: str) -> str:
    """Return the text in NFC, with plain spaces, without invisible characters.

    Text in ASCII is unchanged. Other spaces, such as no-break, thin and ideographic ones, become a
    plain one.
    """
    return unicodedata.normalize("NFC", _SPACES.sub(" ", _INVISIBLE.sub("", text)))


def comparable(text: str) -> str:
    """Return what `exact_match` compares of a text.

    This is the normalized text without case, surrounding white space and one full stop at the end,
    each run of white space as one space.
    """
    folded = " ".join(_fold(text).split())
    return folded[:-1].rstrip() if len(folded) > 1 and folded[-1] in _FULL_STOPS else folded


def squad_words(text: str) -> list[str]:
    """Return the words without case, punctuation and the articles a, an and the, as SQuAD does."""
    spaced = _UNSPACED_GRAPHEME.sub(r" \g<0> ", _PUNCTUATION.sub("", _fold(text)))
    return [word for word in spaced.split() if word not in _ARTICLES]


def alphanumeric_words(text: str) -> list[str]:
    """Return the runs of letters and digits without case, as rouge-score does for ASCII."""
    words: list[str] = _ALPHANUMERIC.findall(_fold(text))
    return words


def separate_words(text: str) -> str:
    """Return the normalized text with spaces around what a script without spaces leaves together.

    These are the graphemes, and wide punctuation. Of such text, sacrebleu's tokenizer `13a` makes
    the tokens of its tokenizers `zh` (Chinese; but for an ASCII period after a final digit) and
    `char` (others). Text in scripts with spaces is unchanged but for its normalization.
    """
    separated: str = _SEPARATED.sub(r" \g<0> ", normalize(text))
    return separated


def _fold(text: str) -> str:
    """Return the normalized text without case."""
    return unicodedata.normalize("NFC", normalize(text).casefold())
