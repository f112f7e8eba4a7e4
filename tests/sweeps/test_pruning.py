"""Pruning never drops a point that could be on the Pareto front."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slmflow.datasets.rows import Row
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Timing
from slmflow.metrics import text_scores
from slmflow.metrics.performance import latency_percentiles
from slmflow.sweeps import goals
from slmflow.sweeps.context import PRUNED
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.pruning import PointPruned, Progress, Pruner, optimistic_bounds
from slmflow.sweeps.report import FRONT
from tests.fixtures.project import Sandbox

MODEL = MeasuredModel("genai", "models:/m-1", "m-1", 2_000_000)
GOALS = (Goal("exact_match", maximize=True), Goal("latency_ms_p50", maximize=False))
ROWS = [Row([{"role": "user", "content": str(n)}], str(n)) for n in range(20)]


def progress(texts: Sequence[str], latencies_s: Sequence[float]) -> Progress:
    """Return the progress after the first rows are answered and timed."""
    answers = {number: Answer(text, None, None) for number, text in enumerate(texts)}
    timings = [Timing(n, latency, None, None, None) for n, latency in enumerate(latencies_s)]
    return Progress(MODEL, ROWS, answers, timings, timed_rows=len(ROWS))


def partly_right(right: int, wrong: int, latency_s: float) -> Progress:
    """Return the progress after some rows, the right answers first."""
    texts = [*(str(n) for n in range(right)), *["no"] * wrong]
    return progress(texts, [latency_s] * len(texts))


def test_remaining_rows_count_as_right_and_instant() -> None:
    bounds = optimistic_bounds(partly_right(right=6, wrong=6, latency_s=0.5))

    assert bounds["exact_match"] == bounds["contains"] == (6 + 8) / 20
    assert bounds["latency_ms_p50"] == 500  # 12 of 20
    assert bounds["latency_ms_p95"] == 500
    assert bounds["model_size_mb"] == 2
    assert "perplexity" not in bounds


def test_bounds_count_every_accepted_answer() -> None:
    rows = [replace(row, other_answers=["no"]) for row in ROWS]
    partly = replace(partly_right(right=6, wrong=6, latency_s=0.5), rows=rows)
    assert optimistic_bounds(partly)["exact_match"] == 1


def test_bounds_of_all_rows_equal_metrics() -> None:
    generator = np.random.default_rng(0)
    texts = [str(n) if generator.random() < 0.5 else "no" for n in range(20)]
    complete = progress(texts, generator.random(20).tolist())

    bounds = optimistic_bounds(complete)

    scores = [
        text_scores.exact_match(text, row.answer) for text, row in zip(texts, ROWS, strict=True)
    ]
    latencies = latency_percentiles(list(complete.timings))
    assert bounds["exact_match"] == sum(scores) / 20
    assert {name: bounds[name] for name in latencies} == latencies


@pytest.mark.parametrize(
    ("other", "is_pruned"),
    [
        ({"exact_match": 0.7, "latency_ms_p50": 400.0}, True),
        ({"exact_match": 0.7, "latency_ms_p50": 500.0}, False),  # equal in both
        ({"exact_match": 0.69, "latency_ms_p50": 1.0}, False),  # the point can still be better
        ({"exact_match": 1.0}, False),  # not known to be faster
    ],
)
def test_dominated_point_is_pruned(other: dict[str, float], is_pruned: bool) -> None:
    pruner = Pruner(GOALS, {"target=cpu_int8": other})
    given = partly_right(right=6, wrong=6, latency_s=0.5)

    if is_pruned:
        with pytest.raises(PointPruned, match=r"after 12 of 20 rows .* beat target") as pruned:
            pruner.check(given)
        assert pruned.value.bounds == {"exact_match": 0.7, "latency_ms_p50": 500}
    else:
        pruner.check(given)


def test_point_on_front_is_never_pruned() -> None:
    generator = np.random.default_rng(1)
    measured: dict[str, dict[str, float]] = {}
    final: dict[str, dict[str, float]] = {}
    for number in range(60):
        right, seconds = generator.random(), generator.random()
        texts = [row.answer if generator.random() < right else "no" for row in ROWS]
        latencies = (seconds * generator.random(len(ROWS))).tolist()
        final[str(number)] = optimistic_bounds(progress(texts, latencies))
        try:
            for turn in range(4, 21, 4):
                Pruner(GOALS, measured).check(progress(texts[:turn], latencies[:turn]))
        except PointPruned:
            continue
        measured[str(number)] = final[str(number)]

    on_front = goals.pareto_front(list(final.values()), GOALS)
    front = {name for name, is_on in zip(final, on_front, strict=True) if is_on}
    assert front <= set(measured)
    assert len(measured) < 30


@pytest.mark.long
def test_search_prunes_larger_and_no_better_models(tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    sandbox.mlflow_run(
        *("-e", "sweep", "-P", "target=cpu_fp32,cpu_int8,cpu_int4", "-P", "evaluation.limit=24"),
        *("-P", "sweep.search=front", "-P", "sweep.front=max exact_match, min model_size_mb"),
        *("-P", "sweep.trials=8"),
    ).check()

    [sweep] = sandbox.runs("sweep")
    points = [run for run in sandbox.runs("evaluate") if run.data.params["target.name"]]
    pruned = [run for run in points if PRUNED in run.data.tags]
    assert sweep.data.metrics["points.given_up"] == len(pruned) >= 1
    assert {run.info.status for run in points} == {"FINISHED"}
    [best] = [run for run in points if run.data.tags.get(FRONT) == "true"]
    assert best.data.params["target.name"] == "cpu_int4"
    assert all("best_case.model_size_mb" in run.data.metrics for run in pruned)
