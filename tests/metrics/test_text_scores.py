import math
import string
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

from slmflow.metrics import text_scores
from slmflow.metrics.text_scores import (
    TextScore,
    contains,
    exact_match,
    exact_match_strict,
    first_difference,
    perplexity,
    rouge_l,
    shared_prefix,
    token_f1,
)
from tests.fixtures.hostile_text import FEW, MANY, TEXT
from tests.metrics import squad_evaluation

ALPHABETS = {
    "han": "首都是巴黎法国的城市在",
    "hiragana": "あいうえおかきくけこさ",
    "katakana": "アイウエオカキクケコー",
    "thai": [*("ก", "ที่", "น้ำ", "เ", "มื", "อ", "ง", "ห", "ล", "ว", "ง")][:10],
    "lao": list("ນຄຫລວງແມ່")[:8],
    "khmer": ["រា", "ជ", "ធា", "នី", "គឺ", "ភ្នំ", "ពេ", "ញ"],
    "myanmar": ["မြို့", "တေ", "ာ်", "ရ", "န်", "ကု", "န"],
    "tibetan": ["ལྷ", "ས", "རྒྱ", "ལ", "ཁ", "བ"],
    "words": [f"{word} " for word in "one two three four five six seven".split()],  # noqa: SIM905
    "hangul": [f"{word} " for word in "수도는 파리 입니다 서울 한국의 도시".split()],  # noqa: SIM905
    "devanagari": [f"{word} " for word in "भारत की राजधानी दिल्ली है नई".split()],  # noqa: SIM905
    "arabic": [f"{word} " for word in "عاصمة فرنسا هي باريس مدينة".split()],  # noqa: SIM905
}


def bleu(answer: str, *expected: str) -> float:
    return text_scores.bleu(text_scores.bleu_counts(answer, expected))


WORD_SCORES: tuple[TextScore, ...] = (token_f1, rouge_l, bleu)
LOOSE_SCORES: tuple[TextScore, ...] = (exact_match, contains, *WORD_SCORES)

ASCII = st.text(st.sampled_from("a the an Rome's 3.14, -5% $7 (x_y) ! ?\n\t\"&<>" + string.digits))
WORDS = st.lists(st.sampled_from("the a Rome rome. Oslo, 3.14 is; it's".split())).map(" ".join)  # noqa: SIM905


@pytest.mark.parametrize(
    ("metric", "answer", "expected", "score"),
    [
        (exact_match, "Paris.", "Paris.", 1),
        (exact_match, " Paris.\n", "Paris.", 1),
        (exact_match, "paris", "Paris.", 1),
        (exact_match, "It  is\nParis .", "it is paris", 1),
        (exact_match, "Paris!", "Paris", 0),
        (exact_match, "3.14", "314", 0),
        (exact_match, "-5", "5", 0),
        (exact_match, "the", "a", 0),
        (exact_match, "", ".", 0),
        (exact_match, "...", "..", 0),
        (exact_match, "首都是巴黎。", "首都是巴黎", 1),
        (exact_match, "दिल्ली।", "दिल्ली", 1),
        (exact_match, "10\u202f000\u00a0km", "10 000 km", 1),
        (exact_match, "Sa\u0303o Tome\u0301", "S\u00e3o Tom\u00e9", 1),
        (exact_match, "\u200fשמש\u200b", "שמש", 1),
        (exact_match, "GROSSE STRASSE", "große Straße", 1),
        (exact_match, "", "a", 0),
        (exact_match_strict, " Paris.\n", "Paris.", 1),
        (exact_match_strict, "paris.", "Paris.", 0),
        (exact_match_strict, "Paris", "Paris.", 0),
        (exact_match_strict, "10\u202f000", "10 000", 0),
        (token_f1, "The capital is PARIS!", "capital is paris", 1),  # case, punctuation, article
        (token_f1, "Paris", "Rome", 0),
        (token_f1, "the city of Paris", "Paris", 0.5),  # 1 of 3 words, 1 of 1: 2 * 1/3 / (4/3)
        (
            token_f1,
            "Paris Paris",
            "Paris",
            2 / 3,
        ),  # repeated words count as often as both have them
        (token_f1, "the", "a", 1),  # both are empty after normalization
        (token_f1, "", "Paris", 0),
        (token_f1, "«N\u2019Djamena»", "N'Djamena", 1),
        (token_f1, "¿París? ¡Sí…", "parís sí", 1),
        (token_f1, "北京、上海", "北京上海。", 1),
        (token_f1, "አዲስ\u1361አበባ", "አዲስ አበባ።", 1),
        (token_f1, "法国的首都是巴黎", "首都是巴黎", 10 / 13),  # 5 of 8 characters, 5 of 5
        (token_f1, "我住在London", "在 London", 2 * 2 / (4 + 2)),
        (rouge_l, "法国的首都是巴黎", "首都是巴黎", 10 / 13),
        (rouge_l, "दिल्ली है", "दिल्ली", 2 / 3),  # vowel signs are part of the word
        (rouge_l, "👍👍", "👍", 2 / 3),
        (contains, "It is Paris, of course", " Paris.\n", 1),
        (contains, "It is paris.", "Paris.", 1),
        (contains, "首都是\u3000巴黎。", "巴黎", 1),
        (contains, "", "Paris.", 0),
        (contains, "Par is", "Paris", 0),
    ],
)
def test_text_scores(metric: TextScore, answer: str, expected: str, score: float) -> None:
    assert metric(answer, expected) == pytest.approx(score)


@pytest.mark.parametrize("metric", LOOSE_SCORES)
def test_nearer_answer_without_spaces_scores_higher(metric: TextScore) -> None:
    expected = "首都是巴黎"
    answers = [expected, "法国的首都是巴黎", "法国的首都是巴", "法国的城市是罗马", "東京"]
    scores = [metric(answer, expected) for answer in answers]
    assert scores[0] == pytest.approx(100 if metric is bleu else 1)
    assert scores[-1] == 0
    assert scores == sorted(scores, reverse=True)
    if metric in WORD_SCORES:
        assert len(set(scores)) == len(answers)


@st.composite
def two_answers(draw: DrawFn, alphabet: list[str]) -> tuple[str, str, str]:
    """Return an expected text, and two answers of which the first keeps more of its end."""
    units = draw(st.permutations(sorted(set(alphabet))))
    nearer = draw(st.integers(0, len(units) - 1))
    farther = draw(st.integers(nearer + 1, len(units)))
    wrong = [("Z " if unit.endswith(" ") else "犬") for unit in units]
    near, far = ("".join([*wrong[:changed], *units[changed:]]) for changed in (nearer, farther))
    return "".join(units), near, far


@pytest.mark.parametrize("script", ALPHABETS)
def test_nearer_answers_score_higher_in_every_script(script: str) -> None:
    @given(texts=two_answers(list(ALPHABETS[script])))
    @FEW
    def check(texts: tuple[str, str, str]) -> None:
        expected, near, far = texts
        for metric in WORD_SCORES:
            assert metric(near, expected) > metric(far, expected)

    check()


def rouge_by_package(answer: str, expected: str) -> float:
    return float(RougeScorer(["rougeL"]).score(expected, answer)["rougeL"].fmeasure)


@given(*[st.lists(st.sampled_from("abc"), max_size=80).map(" ".join)] * 2)
@MANY
def test_rouge_of_repeated_words_equals_rouge_score(answer: str, expected: str) -> None:
    assert rouge_l(answer, expected) == rouge_by_package(answer, expected)


@given(answer=ASCII | WORDS, expected=ASCII | WORDS)
@MANY
def test_ascii_scores_equal_those_of_the_published_scripts(answer: str, expected: str) -> None:
    assert token_f1(answer, expected) == pytest.approx(
        squad_evaluation.compute_f1(expected, answer)
    )
    assert rouge_l(answer, expected) == rouge_by_package(answer, expected)
    reference = BLEU(effective_order=True).sentence_score(answer, [expected])
    assert bleu(answer, expected) == pytest.approx(reference.score)


def _is_sacrebleu(tokenizer: str, alphabet: SearchStrategy[str]) -> None:
    @given(answer=st.text(alphabet), expected=st.text(alphabet))
    @MANY
    def check(answer: str, expected: str) -> None:
        reference = BLEU(tokenize=tokenizer, effective_order=True)
        assert bleu(answer, expected) == pytest.approx(
            reference.sentence_score(answer, [expected]).score
        )

    check()


@pytest.mark.parametrize(
    ("tokenizer", "alphabet"),
    [
        ("zh", "首都是巴黎法国\uff0c。「」\uff08\uff09\uff1f Paris314-"),
        ("char", "ひらがなカタカナーと漢字。、"),
        ("char", "กขคงจฉช"),
        ("13a", "Größe naïve été, Київ 3.14 «да» مدينة، 서울 दिल्ली"),
    ],
)
def test_bleu_equals_sacrebleu_of_the_script(tokenizer: str, alphabet: str) -> None:
    _is_sacrebleu(tokenizer, st.sampled_from(alphabet))


@given(answer=TEXT, expected=TEXT)
@MANY
def test_scores_do_not_depend_on_unicode_spelling(answer: str, expected: str) -> None:
    respelled = unicodedata.normalize("NFD", answer).replace(" ", "\u00a0")
    for metric in LOOSE_SCORES:
        assert metric(respelled, expected) == pytest.approx(metric(answer, expected))


@given(text=TEXT, other=TEXT, changes=st.sampled_from([str.upper, str.lower, str.strip]))
@MANY
def test_stricter_match_implies_looser_ones(text: str, other: str, changes: TextScore) -> None:
    for answer in (text, other, f" {text}\n", str(changes(text)), f"{text}."):  # type: ignore
        assert exact_match_strict(answer, text) <= exact_match(answer, text)
        assert exact_match(answer, text) <= contains(answer, text)
        assert exact_match(answer, text) <= token_f1(answer, text)


def test_best_accepted_answer_counts() -> None:
    assert text_scores.best(exact_match, "Paname", ["Paris", "paname"]) == 1
    assert text_scores.best(token_f1, "city of Paris", ["Rome", "the city"]) == pytest.approx(0.5)
    assert bleu("Paname.", "Paris.", "Paname.") == pytest.approx(100)


def test_perplexity_is_over_tokens_not_rows() -> None:
    rows = np.array([[math.log(1 / 2), 1], [3 * math.log(1 / 8), 3]])
    # (1/2 * 1/8 * 1/8 * 1/8) ** (-1/4) = 2 ** (10/4)
    assert perplexity(rows.sum(axis=0)) == pytest.approx(2**2.5)
    assert perplexity(rows).tolist() == pytest.approx([2, 8])


@pytest.mark.parametrize(
    ("ours", "theirs", "position", "share"),
    [
        ([1, 2, 3], [1, 2, 3], None, 1),
        ([1, 2, 4], [1, 2, 3], 3, 2 / 3),
        ([4], [1, 2, 3], 1, 0),
        ([1, 2], [1, 2, 3], 3, 2 / 3),  # ends early
        ([1, 2, 3, 4], [1, 2, 3], 4, 3 / 4),
        ([1, 4, 3], [1, 2, 3], 2, 1 / 3),  # equal tokens after a difference do not count
        ([], [1], 1, 0),
        ([], [], None, 1),
    ],
)
def test_first_difference_and_shared_prefix(
    ours: list[int], theirs: list[int], position: int | None, share: float
) -> None:
    assert first_difference(ours, theirs) == position
    assert shared_prefix(ours, theirs) == pytest.approx(share)
