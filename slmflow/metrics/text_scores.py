"""Scores of an answer from 0 to 1, and the statistics that BLEU and perplexity aggregate.

All but `exact_match_strict` compare normalized texts of any script (`text_normalization`). With
several accepted answers, the best score counts (`best`), as in SQuAD.
"""

import functools
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU

from slmflow.metrics import text_normalization
from slmflow.runtime.readings import common_length

TextScore = Callable[[str, str], float]
"""Maps an answer and the text to compare it with to a score."""


def best(score: TextScore, answer: str, expected: Sequence[str]) -> float:
    """Return the highest score of an answer against any of the expected texts."""
    return max(score(answer, each) for each in expected)


def exact_match(answer: str, expected: str) -> float:
    """Return 1 if the texts are equal apart from case, white space and a full stop at the end.

    Other punctuation counts, so that "3.14" is not "314", nor "-5" equal to "5". Unicode spellings
    of one text are equal (NFC, kinds of spaces).
    """
    ours, theirs = map(text_normalization.comparable, (answer, expected))
    return float(ours == theirs)


def exact_match_strict(answer: str, expected: str) -> float:
    """Return 1 if the texts are equal apart from surrounding white space, else 0."""
    return float(answer.strip() == expected.strip())


def contains(answer: str, expected: str) -> float:
    """Return 1 if the answer contains the expected text, both as `exact_match` compares them."""
    ours, theirs = map(text_normalization.comparable, (answer, expected))
    return float(theirs in ours)


def token_f1(answer: str, expected: str) -> float:
    """Return the F1 score of the words, after SQuAD's normalization.

    This is `compute_f1` of the official evaluation script, evaluate-v2.0.py (Rajpurkar, Jia and
    Liang, "Know What You Don't Know", 2018, https://rajpurkar.github.io/SQuAD-explorer/), with
    punctuation of all scripts and characters as the words of scripts without spaces.
    """
    ours, theirs = map(text_normalization.squad_words, (answer, expected))
    if not ours or not theirs:
        return float(ours == theirs)
    shared = (Counter(ours) & Counter(theirs)).total()
    return 2 * shared / (len(ours) + len(theirs))


def rouge_l(answer: str, expected: str) -> float:
    """Return the F-measure of ROUGE-L, as rouge-score computes it without stemming.

    It is based on the longest common subsequence of words (Lin, "ROUGE: A Package for Automatic
    Evaluation of Summaries", 2004); of characters, in a script without spaces.
    """
    ours, theirs = map(text_normalization.alphanumeric_words, (answer, expected))
    shared = _longest_common_subsequence(ours, theirs)
    if shared == 0:
        return 0.0
    precision, recall = shared / len(ours), shared / len(theirs)
    return 2 * precision * recall / (precision + recall)


def bleu_counts(answer: str, expected: Sequence[str]) -> tuple[int, ...]:
    """Return the statistics of BLEU: 4 matching and 4 total n-gram counts, and 2 lengths.

    expected: all accepted answers, which are references of one segment. The lengths of the answer
    and of the closest reference are in tokens of sacrebleu's tokenizer `13a` where spaces separate
    words, and of `zh` where not (`text_normalization.separate_words`). The sums over a corpus give
    its BLEU (`bleu`).
    """
    references = list(map(text_normalization.separate_words, expected))
    score = _bleu().sentence_score(text_normalization.separate_words(answer), references)
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


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest common subsequence of words.

    Each row of the usual table is one number, with a bit for each word (Hyyrö, "Bit-Parallel LCS-
    length Computation Revisited", 2004).
    """
    positions: dict[str, int] = {}
    for number, word in enumerate(first):
        positions[word] = positions.get(word, 0) | 1 << number
    every = (1 << len(first)) - 1
    row = every
    for word in second:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & every
    return (every & ~row).bit_count()


@functools.cache
def _bleu() -> BLEU:
    return BLEU(effective_order=True)
