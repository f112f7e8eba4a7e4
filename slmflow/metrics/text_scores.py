"""How good an answer is: from 0 to 1, and for BLEU and perplexity, of what they are made of."""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile, zip_longest

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

TextScore = Callable[[str, str], float]
"""From an answer and the text it is compared with to a score."""


def exact_match(answer: str, expected: str) -> float:
    """Return 1 if the texts are the same but for white space around them, else 0."""
    return float(answer.strip() == expected.strip())


def contains(answer: str, expected: str) -> float:
    """Return 1 if the expected text, white space around it aside, is in the answer, else 0."""
    return float(expected.strip() in answer)


def token_f1(answer: str, expected: str) -> float:
    """Return the F1 score of the answer's words after SQuAD's normalization.

    It is `compute_f1` of the official evaluation script, evaluate-v2.0.py (Rajpurkar, Jia and
    Liang, "Know What You Don't Know", 2018, https://rajpurkar.github.io/SQuAD-explorer/).
    """
    words, wanted = _words(answer), _words(expected)
    if not words or not wanted:
        return float(words == wanted)
    shared = (Counter(words) & Counter(wanted)).total()
    return 2 * shared / (len(words) + len(wanted))


def rouge_l(answer: str, expected: str) -> float:
    """Return the F measure of ROUGE-L, by rouge-score, without stemming.

    The longest common subsequence of the words (Lin, "ROUGE: A Package for Automatic Evaluation of
    Summaries", 2004).
    """
    return float(_rouge().score(expected, answer)["rougeL"].fmeasure)


def bleu_counts(answer: str, expected: str) -> tuple[int, ...]:
    """Return what BLEU is computed from: 4 matching and 4 total n-gram counts, and 2 lengths.

    The lengths are those of the answer and of the expected text, in tokens of sacrebleu's default,
    `13a`. The sums of these over a corpus give its BLEU (`bleu`).
    """
    score = _bleu().sentence_score(answer, [expected])
    return (*score.counts, *score.totals, score.sys_len, score.ref_len)


def bleu(counts: Sequence[int]) -> float:
    """Return BLEU, 0 to 100, of a row's counts or of a corpus' sums of them, by sacrebleu.

    With the effective order, so that a right answer of fewer than 4 tokens scores 100, not 0; and
    sacrebleu's default smoothing `exp` (Post, "A Call for Clarity in Reporting BLEU Scores", 2018).
    """
    score = BLEU.compute_bleu(
        correct=list(counts[:4]),
        total=list(counts[4:8]),
        sys_len=counts[8],
        ref_len=counts[9],
        smooth_method="exp",
        effective_order=True,
    )
    return float(score.score)


def perplexity(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the perplexity of texts: of shape (..., 2), sums of log-probabilities and of tokens.

    It is exp(-(sum of the natural log-probabilities) / tokens): how little a model is surprised.
    """
    return np.asarray(np.exp(-sums[..., 0] / sums[..., 1]))


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Return the position, from 1, of the first token that differs; None where all are the same.

    A text that stops short diverges at the other's next token.
    """
    return None if ours == theirs else _same(ours, theirs) + 1


def shared_prefix(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Return the tokens before the first that differs, as a share of the longer text's tokens."""
    longer = max(len(ours), len(theirs))
    return _same(ours, theirs) / longer if longer else 1.0


def _same(ours: Sequence[int], theirs: Sequence[int]) -> int:
    """Return how many tokens are the same before the first that differs."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip_longest(ours, theirs)))


def _words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation and the articles a, an and the."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()


class _AnyAlphabet:
    """rouge-score's own tokens where text is ASCII; it drops the letters of any other alphabet."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@functools.cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=_AnyAlphabet())


@functools.cache
def _bleu() -> BLEU:
    return BLEU(effective_order=True)
