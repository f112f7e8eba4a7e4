"""The metrics, compared with direct calls of the libraries they use."""

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
from slmflow.metrics.scoring import Metric, estimate_uncertainty, text_metric
from slmflow.metrics.uncertainty import Array, confidence_interval, paired_p_value

METRICS = {metric.name: metric for metric in ALL}
WORDS = "The capital of a country is city, may be Paris. Rome! Oslo".split()  # noqa: SIM905


def texts(seed: int, changed: float) -> tuple[list[str], list[str]]:
    """Return 60 answers and expected texts that differ in this share of the words."""
    choice = random.Random(seed)  # noqa: S311
    expected = [" ".join(choice.choices(WORDS, k=choice.randint(1, 25))) for _ in range(60)]
    answers = [
        " ".join("other" if choice.random() < changed else word for word in text.split())
        for text in expected
    ]
    return answers, expected


def statistics(metric: Metric, answers: list[str], expected: list[str]) -> Array:
    return metric.row_statistics(pd.DataFrame({"prediction": answers, "answer": expected}))


def value(metric: Metric, answers: list[str], expected: list[str]) -> float:
    return float(metric.aggregate(statistics(metric, answers, expected).sum(axis=0)))


def test_bleu_equals_sacrebleu() -> None:
    answers, expected = texts(1, 0.2)
    metric = METRICS["bleu"]
    whole = sacrebleu.corpus_bleu(answers, [expected]).score
    assert value(metric, answers, expected) == pytest.approx(whole)
    by_row = [sacrebleu.sentence_bleu(a, [e]).score for a, e in zip(answers, expected, strict=True)]
    assert metric.aggregate(statistics(metric, answers, expected)).tolist() == pytest.approx(by_row)


def test_short_correct_answer_has_full_bleu() -> None:
    assert sacrebleu.corpus_bleu(["Rome."], [["Rome."]]).score == 0
    assert value(METRICS["bleu"], ["Rome."], ["Rome."]) == pytest.approx(100)
    assert value(METRICS["bleu"], [""], ["Rome."]) == 0


def test_bleu_interval_matches_sacrebleu() -> None:
    """sacrebleu's bootstrap with other resamples gives half the width of the interval."""
    answers, expected = texts(1, 0.2)
    metric = METRICS["bleu"]
    low, high = confidence_interval(
        statistics(metric, answers, expected), metric.aggregate, is_share=False
    ) or (0, 0)
    theirs = BLEU().corpus_score(answers, [expected], n_bootstrap=4000)
    assert (high - low) / 2 == pytest.approx(theirs._ci, rel=0.1)  # type: ignore[attr-defined]
    assert low < theirs.score < high


def test_bleu_p_value_matches_sacrebleu(monkeypatch: pytest.MonkeyPatch) -> None:
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
    p = paired_p_value(
        statistics(metric, ours, expected), statistics(metric, theirs, expected), metric.aggregate
    )
    assert p == pytest.approx(results[1].p_value, abs=0.03)


def test_rouge_l_equals_rouge_score() -> None:
    answers, expected = texts(2, 0.3)
    scorer = RougeScorer(["rougeL"])
    by_row = [scorer.score(e, a)["rougeL"].fmeasure for a, e in zip(answers, expected, strict=True)]
    metric = METRICS["rouge_l"]
    assert metric.aggregate(statistics(metric, answers, expected)).tolist() == pytest.approx(by_row)


def test_rouge_l_supports_other_alphabets() -> None:
    assert RougeScorer(["rougeL"]).score("Москва", "Москва")["rougeL"].fmeasure == 0
    assert value(METRICS["rouge_l"], ["Это Москва."], ["это москва"]) == 1


def test_user_metric_is_a_mean_with_cached_scores() -> None:
    scored = []

    def length(answer: str, expected: str) -> float:
        scored.append(answer)
        return len(answer) / len(expected)

    metric = text_metric("length", length)
    assert value(metric, ["a", "abc"], ["ab", "ab"]) == 1
    assert value(metric, ["a", "abc"], ["ab", "ab"]) == 1
    assert scored == ["a", "abc"]


def test_best_of_several_accepted_answers_counts() -> None:
    table = pd.DataFrame(
        {
            "prediction": ["Paname.", "It is Rome", "the city Oslo"],
            "answer": ["Paris.", "Rome", "Oslo"],
            "other_answers": [["Lutetia", "paname"], [], ["a city"]],
        }
    )
    alone = table.drop(columns="other_answers")
    by_row = {
        name: metric.aggregate(metric.row_statistics(table)).tolist()
        for name, metric in METRICS.items()
        if metric.accepts_others
    }
    assert set(by_row) == {
        *("exact_match", "exact_match_strict", "contains", "token_f1", "rouge_l", "bleu")
    }
    assert by_row["exact_match"] == [1, 0, 0]
    assert by_row["exact_match_strict"] == [0, 0, 0]
    assert by_row["contains"] == [1, 1, 1]
    assert by_row["token_f1"] == pytest.approx([1, 0.5, 2 / 3])
    for name, scores in by_row.items():
        metric = METRICS[name]
        fewer = metric.aggregate(metric.row_statistics(alone)).tolist()
        assert all(more >= less for more, less in zip(scores, fewer, strict=True)), name


def test_bleu_takes_accepted_answers_as_references() -> None:
    answers, expected = texts(1, 0.2)
    others = texts(7, 0.2)[0]
    table = pd.DataFrame({"prediction": answers, "answer": expected})
    table["other_answers"] = [[text] for text in others]
    metric = METRICS["bleu"]
    ours = float(metric.aggregate(metric.row_statistics(table).sum(axis=0)))
    assert ours == pytest.approx(sacrebleu.corpus_bleu(answers, [expected, others]).score)


@pytest.fixture
def tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The answer tables of a model and of its reference."""
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


def test_uncertainty_of_model_and_reference(
    tables: tuple[pd.DataFrame, pd.DataFrame],
) -> None:
    ours, theirs = tables
    estimated = estimate_uncertainty(ALL, ours, theirs)
    assert set(estimated.intervals) == set(METRICS)
    assert set(estimated.p_values) == {
        metric.name for metric in ALL if not metric.compares_reference
    }
    assert estimated.p_values["token_f1"] < 0.05
    assert estimated.p_values["perplexity"] < 0.001
    for name, (low, high) in estimated.intervals.items():
        metric = METRICS[name]
        assert low <= float(metric.aggregate(metric.row_statistics(ours).sum(axis=0))) <= high
    computable = [metric for metric in ALL if metric.is_computable(theirs)]
    assert {metric.name for metric in computable} == set(METRICS) - {"agreement", "shared_prefix"}
    alone = estimate_uncertainty(computable, theirs, None)
    assert alone.p_values == {}
    assert np.isfinite(list(alone.intervals.values())).all()


@pytest.mark.parametrize("has_others", [False, True])
def test_mlflow_computes_equal_metrics(
    tracking: str, tables: tuple[pd.DataFrame, pd.DataFrame], has_others: bool
) -> None:
    """Every metric works in `mlflow.models.evaluate`, whatever columns it reads."""
    ours, theirs = tables
    if has_others:
        others = [[] if number % 3 else [text] for number, text in enumerate(theirs["prediction"])]
        ours = ours.assign(other_answers=others)
    with mlflow.start_run():
        data = from_pandas(ours, targets="answer", predictions="prediction")
        assert data.schema is not None
        evaluated = mlflow.models.evaluate(
            data=data, extra_metrics=[metric.to_mlflow(ours) for metric in ALL]
        )
    for metric in ALL:
        whole = float(metric.aggregate(metric.row_statistics(ours).sum(axis=0)))
        assert evaluated.metrics[metric.name] == pytest.approx(whole), metric.name
        scores = evaluated.tables["eval_results_table"][f"{metric.name}/score"]
        assert list(scores) == pytest.approx(metric.aggregate(metric.row_statistics(ours)).tolist())
