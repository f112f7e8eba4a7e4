"""Which points are given up: never one that could have been on the front."""

from pathlib import Path

import numpy as np
import pytest

from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer
from slmflow.metrics import text_scores
from slmflow.metrics.costs import latencies
from slmflow.sweeps import goals
from slmflow.sweeps.context import PRUNED
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.pruning import Front, Pruned, best_case
from slmflow.sweeps.reports.report import FRONT
from tests.fixtures.project import Workplace

MODEL = MeasuredModel("genai", "models:/m-1", "m-1", 2_000_000)
GOALS = (Goal("exact_match", more=True), Goal("latency_ms_p50", more=False))
ROWS = [Row([{"role": "user", "content": str(n)}], str(n)) for n in range(20)]


def answers(right: int, wrong: int, latency_s: float) -> list[Answer]:
    """Return answers to the first rows, the right ones first."""
    texts = [*(str(n) for n in range(right)), *["no"] * wrong]
    return [Answer(text, latency_s, None, None, None) for text in texts]


def test_what_is_left_can_only_be_right_and_take_no_time() -> None:
    best = best_case(MODEL, answers(right=6, wrong=6, latency_s=0.5), ROWS)

    assert best["exact_match"] == best["contains"] == (6 + 8) / 20
    assert best["latency_ms_p50"] == 500  # 12 of 20
    assert best["latency_ms_p95"] == 500
    assert best["model_size_mb"] == 2
    assert "perplexity" not in best


def test_of_all_rows_it_is_what_evaluate_finds() -> None:
    generator = np.random.default_rng(0)
    texts = [str(n) if generator.random() < 0.5 else "no" for n in range(20)]
    told = [Answer(text, generator.random(), None, None, None) for text in texts]

    best = best_case(MODEL, told, ROWS)

    scores = [
        text_scores.exact_match(a.text, row.answer) for a, row in zip(told, ROWS, strict=True)
    ]
    assert best["exact_match"] == sum(scores) / 20
    assert {name: best[name] for name in latencies(told)} == latencies(told)


@pytest.mark.parametrize(
    ("rival", "is_given_up"),
    [
        ({"exact_match": 0.7, "latency_ms_p50": 400.0}, True),
        ({"exact_match": 0.7, "latency_ms_p50": 500.0}, False),  # as good in both
        ({"exact_match": 0.69, "latency_ms_p50": 1.0}, False),  # it can still be better
        ({"exact_match": 1.0}, False),  # it is not known to be faster
    ],
)
def test_a_point_is_given_up_for_one_that_it_cannot_beat(
    rival: dict[str, float], is_given_up: bool
) -> None:
    front = Front(GOALS, {"target=cpu_int8": rival})
    given = answers(right=6, wrong=6, latency_s=0.5)

    if is_given_up:
        with pytest.raises(Pruned, match=r"after 12 of 20 rows .* than target") as pruned:
            front.check(MODEL, given, ROWS)
        assert pruned.value.best == {"exact_match": 0.7, "latency_ms_p50": 500}
    else:
        front.check(MODEL, given, ROWS)


def test_no_point_of_the_front_is_ever_given_up() -> None:
    """Measured in any order, with answers that get better, worse, faster and slower."""
    generator = np.random.default_rng(1)
    rivals: dict[str, dict[str, float]] = {}
    whole: dict[str, dict[str, float]] = {}
    for number in range(60):
        right, seconds = generator.random(), generator.random()
        told = [
            Answer(
                row.answer if generator.random() < right else "no",
                seconds * generator.random(),
                None,
                None,
                None,
            )
            for row in ROWS
        ]
        whole[str(number)] = best_case(MODEL, told, ROWS)
        try:
            for turn in range(4, 21, 4):
                Front(GOALS, rivals).check(MODEL, told[:turn], ROWS)
        except Pruned:
            continue
        rivals[str(number)] = whole[str(number)]

    on_front = goals.front(list(whole.values()), GOALS)
    kept = {name for name, is_on in zip(whole, on_front, strict=True) if is_on}
    assert kept <= set(rivals)
    assert len(rivals) < 30


@pytest.mark.long
def test_a_search_gives_up_what_is_larger_and_no_better(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    done = place.mlflow_run(
        *("-e", "sweep", "-P", "target=cpu_fp32,cpu_int8,cpu_int4", "-P", "evaluation.limit=24"),
        *("-P", "sweep.search=front", "-P", "sweep.front=max exact_match, min model_size_mb"),
        *("-P", "sweep.trials=8"),
    )

    assert done.status == 0, done.errors
    [sweep] = place.runs("sweep")
    points = [run for run in place.runs("evaluate") if run.data.params["target.name"]]
    given_up = [run for run in points if PRUNED in run.data.tags]
    assert sweep.data.metrics["points.given_up"] == len(given_up) >= 1
    assert {run.info.status for run in points} == {"FINISHED"}
    [best] = [run for run in points if run.data.tags.get(FRONT) == "true"]
    assert best.data.params["target.name"] == "cpu_int4"
    assert all("best_case.model_size_mb" in run.data.metrics for run in given_up)
