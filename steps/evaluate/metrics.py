"""How good an answer is: text against text, from 0 to 1, and the same as MLflow metrics."""

import re
import string
from collections import Counter
from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any

from mlflow.metrics import MetricValue, make_metric

TextMetric = Callable[[str, str], float]


def exact_match(answer: str, expected: str) -> float:
    """Return 1 if the texts are the same but for white space around them, else 0."""
    return float(answer.strip() == expected.strip())


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


def against_answer() -> list[Any]:
    """Return the MLflow metrics of a flavor's predictions against the targets of the data."""

    def mlflow_metric(metric: TextMetric, name: str) -> Any:
        # MLflow finds the arguments by their names.
        def evaluate(predictions: Iterable[str], targets: Iterable[str]) -> MetricValue:
            return _mean(name, metric, predictions, targets)

        return make_metric(eval_fn=evaluate, greater_is_better=True, name=name)

    return [mlflow_metric(exact_match, "exact_match"), mlflow_metric(token_f1, "token_f1")]


def against_reference() -> Any:
    """Return the MLflow metric `agreement`: predictions equal to those in column `reference`."""

    def evaluate(predictions: Iterable[str], reference: Iterable[str]) -> MetricValue:
        return _mean("agreement", exact_match, predictions, reference)

    return make_metric(eval_fn=evaluate, greater_is_better=True, name="agreement")


def _mean(
    name: str, metric: TextMetric, predictions: Iterable[str], expected: Iterable[str]
) -> MetricValue:
    scores = [metric(*pair) for pair in zip(predictions, expected, strict=True)]
    return MetricValue(scores=scores, aggregate_results={name: fmean(scores)})


def _words(text: str) -> list[str]:
    """Return the words in lower case, without punctuation and the articles a, an and the."""
    kept = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", kept).split()
