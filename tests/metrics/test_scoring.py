"""The metrics against the libraries they stand on, called directly."""

import random

import mlflow
import numpy as np
import pandas as pd
import pytest
import sacrebleu
from mlflow.data.pandas_dataset import from_pandas
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest

from slmflow.metrics.scoring import METRICS as ALL
from slmflow.metrics.scoring import Metric, mean_metric, estimate_uncertainty
from slmflow.metrics.uncertainty import Array, confidence_interval, paired_p_value

METRICS = {metric.name: metric for metric in ALL}
WORDS = [
    "The",
    "capital",
    "of",
    "a",
    "country",
    "is",
    "city,",
    "may",
    "be",
    "Paris.",
    "Rome!",
    "Oslo",
]


def texts(seed: int, changed: float) -> tuple[list[str], list[str]]:
    """Return 60 answers and what is expected of them; this share of the words is another."""
    choice = random.Random(seed)  # noqa: S311
    expected = [" ".join(choice.choices(WORDS, k=choice.randint(1, 25))) for _ in range(60)]
    answers = [
        " ".join("other" if choice.random() < changed else word for word in text.split())
        for text in expected
    ]
    return answers, expected


def rows(metric: Metric, answers: list[str], expected: list[str]) -> Array:
    return metric.rows(pd.DataFrame({"prediction": answers, "answer": expected}))


def figure(metric: Metric, answers: list[str], expected: list[str]) -> float:
    return float(metric.figure(rows(metric, answers, expected).sum(axis=0)))


def test_bleu_is_that_of_sacrebleu() -> None:
    answers, expected = texts(1, 0.2)
    metric = METRICS["bleu"]
    whole = sacrebleu.corpus_bleu(answers, [expected]).score
    assert figure(metric, answers, expected) == pytest.approx(whole)
    by_row = [sacrebleu.sentence_bleu(a, [e]).score for a, e in zip(answers, expected, strict=True)]
    assert metric.figure(rows(metric, answers, expected)).tolist() == pytest.approx(by_row)


def test_bleu_of_short_right_answers_is_whole() -> None:
    assert sacrebleu.corpus_bleu(["Rome."], [["Rome."]]).score == 0
    assert figure(METRICS["bleu"], ["Rome."], ["Rome."]) == pytest.approx(100)
    assert figure(METRICS["bleu"], [""], ["Rome."]) == 0


def test_bleu_interval_is_that_of_sacrebleu() -> None:
    """Its own bootstrap, with resamples of its own, gives half the width of the same interval."""
    answers, expected = texts(1, 0.2)
    metric = METRICS["bleu"]
    low, high = confidence_interval(rows(metric, answers, expected), metric.figure, share=False) or (0, 0)
    theirs = BLEU().corpus_score(answers, [expected], n_bootstrap=4000)
    assert (high - low) / 2 == pytest.approx(theirs._ci, rel=0.1)  # type: ignore[attr-defined]
    assert low < theirs.score < high


def test_bleu_is_tested_as_sacrebleu_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACREBLEU_SEED", "1")
    expected = texts(3, 0.1)[1]
    ours = [text.replace("city,", "town", 1) for text in expected]
    theirs = [text.replace("Rome!", "Oslo", 1) for text in expected]
    tested = PairedTest(
        [("theirs", theirs), ("ours", ours)],
        {"BLEU": BLEU()},
        references=[expected],
        test_type="ar",
        n_samples=5000,
    )
    ((_, results),) = [item for item in tested()[1].items() if item[0] == "BLEU"]
    metric = METRICS["bleu"]
    p = paired_p_value(rows(metric, ours, expected), rows(metric, theirs, expected), metric.figure)
    assert p == pytest.approx(results[1].p_value, abs=0.03)


def test_rouge_l_is_that_of_rouge_score() -> None:
    answers, expected = texts(2, 0.3)
    scorer = RougeScorer(["rougeL"])
    by_row = [scorer.score(e, a)["rougeL"].fmeasure for a, e in zip(answers, expected, strict=True)]
    metric = METRICS["rouge_l"]
    assert metric.figure(rows(metric, answers, expected)).tolist() == pytest.approx(by_row)


def test_rouge_l_knows_other_alphabets() -> None:
    assert RougeScorer(["rougeL"]).score("Москва", "Москва")["rougeL"].fmeasure == 0
    assert figure(METRICS["rouge_l"], ["Это Москва."], ["это москва"]) == 1


def test_a_metric_of_ones_own_is_a_mean() -> None:
    asked = []

    def length(answer: str, expected: str) -> float:
        asked.append(answer)
        return len(answer) / len(expected)

    metric = mean_metric("length", length)
    assert figure(metric, ["a", "abc"], ["ab", "ab"]) == 1
    assert figure(metric, ["a", "abc"], ["ab", "ab"]) == 1
    assert asked == ["a", "abc"]


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """A model's table beside its reference's, and that one."""
    answers, expected = texts(1, 0.2)
    reference = texts(1, 0.1)[0]
    chance = random.Random(5)  # noqa: S311
    theirs = pd.DataFrame({"prediction": reference, "answer": expected})
    theirs["logprob"] = [-2 * chance.random() for _ in expected]
    theirs["tokens"] = [len(text.split()) for text in expected]
    theirs["choice"] = reference
    ours = theirs.assign(prediction=answers, choice=answers, logprob=theirs["logprob"] - 0.5)
    shared = [float(chance.random()) for _ in expected]
    return ours.assign(reference=reference, same_until=shared), theirs


def test_uncertainty_of_a_model_and_its_reference(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    ours, theirs = tables
    found = estimate_uncertainty(ALL, ours, theirs)
    assert set(found.intervals) == set(METRICS)
    assert set(found.p_values) == {metric.name for metric in ALL if not metric.of_reference}
    assert found.p_values["token_f1"] < 0.05
    assert found.p_values["perplexity"] < 0.001
    for name, (low, high) in found.intervals.items():
        metric = METRICS[name]
        assert low <= float(metric.figure(metric.rows(ours).sum(axis=0))) <= high
    own = [metric for metric in ALL if metric.measured(theirs)]
    assert {metric.name for metric in own} == set(METRICS) - {"agreement", "shared_prefix"}
    alone = estimate_uncertainty(own, theirs, None)
    assert alone.p_values == {}
    assert np.isfinite(list(alone.intervals.values())).all()


def test_mlflow_computes_the_same_figures(
    tracking: str, tables: tuple[pd.DataFrame, pd.DataFrame]
) -> None:
    """Each through the real `mlflow.models.evaluate`, whatever columns it reads."""
    ours, _ = tables
    with mlflow.start_run():
        evaluated = mlflow.models.evaluate(
            data=from_pandas(ours, targets="answer", predictions="prediction"),
            extra_metrics=[metric.mlflow() for metric in ALL],
        )
    for metric in ALL:
        whole = float(metric.figure(metric.rows(ours).sum(axis=0)))
        assert evaluated.metrics[metric.name] == pytest.approx(whole), metric.name
        scores = evaluated.tables["eval_results_table"][f"{metric.name}/score"]
        assert list(scores) == pytest.approx(metric.figure(metric.rows(ours)).tolist())
