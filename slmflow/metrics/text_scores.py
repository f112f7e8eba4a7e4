"""Scores of an answer from 0 to 1, and the statistics that BLEU and perplexity aggregate."""

import functools
import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU

TextScore = Callable[[str, str], float]
"""Maps an answer and the text to compare it with to a score."""


def exact_match(answer: str, expected: str) -> float:
    """Return 1 if the texts are equal apart from surrounding white space, else 0."""
    return float(answer.strip() == expected.strip())


def contains(answer: str, expected: str) -> float:
    """Return 1 if the answer contains the expected text without surrounding white space, else 0."""
    return float(expected.strip() in answer)


def token_f1(answer: str, expected: str) -> float:
    """Return the F1 score of the words, after SQuAD's normalization.

    This is `compute_f1` of the official evaluation script, evaluate-v2.0.py (Rajpurkar, Jia and
    Liang, "Know What You Don't Know", 2018, https://rajpurkar.github.io/SQuAD-explorer/).
    """
    ours, theirs = _words(answer), _words(expected)
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def rouge_l(answer: str, expected: str) -> float:
    """Return the F-measure of ROUGE-L, by rouge-score, without stemming.

    It is based on the longest common subsequence of words (Lin, "ROUGE: A Package for Automatic
    Evaluation of Summaries", 2004).
    """
    return float(_rouge().score(expected, answer)["rougeL"].fmeasure)


def bleu_counts(answer: str, expected: str) -> tuple[int, ...]:
    """Return the statistics of BLEU: 4 matching and 4 total n-gram counts, and 2 lengths.

    The lengths of answer and expected text are in tokens of sacrebleu's default tokenizer, `13a`.
    The sums over a corpus give its BLEU (`bleu`).
    """
    score = _bleu().sentence_score(answer, [expected])
    return (*score.counts, *score.totals, score.sys_len, score.ref_len)


def bleu(counts: Sequence[int]) -> float:
    """Return the BLEU, 0 to 100, of one row's counts or of the sums over a corpus, by sacrebleu.

    Uses the effective order, so that a correct answer of fewer than 4 tokens scores 100, not 0, and
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
    """Return the perplexity: exp(-(sum of natural log-probabilities) / tokens).

    sums: of shape (..., 2), the sums of log-probabilities and of tokens.
    """
    return np.asarray(np.exp(-sums[..., 0] / sums[..., 1]))


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int | None:
    """Return the position, from 1, of the first different token; None if all are equal.

    A text that ends early differs at the other's next token.
    """
    return None if ours == theirs else common_length(ours, theirs) + 1


def shared_prefix(ours: Sequence[int], theirs: Sequence[int]) -> float:
    """Return the tokens before the first different one, as a share of the longer text's tokens."""
    longer = max(len(ours), len(theirs))
    return common_length(ours, theirs) / longer if longer else 1.0


def common_length(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the length of the common prefix of two texts or lists of tokens."""
    pairs = zip(one, other, strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def _words(text: str) -> list[str]:
    """Return the lower-case words, without punctuation and the articles a, an and the."""
    stripped = "".join(
        character for character in text.lower() if character not in string.punctuation
    )
    return re.sub(r"\b(a|an|the)\b", " ", stripped).split()


class _AnyAlphabet:
    """Tokenize like rouge-score, which drops all letters outside ASCII."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())


@functools.cache
def _rouge() -> RougeScorer:
    return RougeScorer(["rougeL"], tokenizer=_AnyAlphabet())


@functools.cache
def _bleu() -> BLEU:
    return BLEU(effective_order=True)
