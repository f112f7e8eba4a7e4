"""The best point, the front, their summary and their plots."""

import dataclasses

import pytest

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.sweeps import plots, points, sweep_result
from slmflow.sweeps.outcomes import MeasuredPoint
from tests.metrics.samples import COMPARISON, GENAI, TRANSFORMERS

# Slow and right; fast and nearly right; dominated by the second; without a latency.
METRICS = (
    {"exact_match": 1.0, "latency_ms_p50": 50.0, "peak_rss_mb": 900.0},
    {"exact_match": 0.9, "latency_ms_p50": 10.0, "peak_rss_mb": 400.0},
    {"exact_match": 0.9, "latency_ms_p50": 12.0, "peak_rss_mb": 400.0},
    {"exact_match": 0.95, "latency_ms_p50": None},
)
SWEPT = "generation.max_new_tokens=1,2,3,4"


def _measured() -> list[MeasuredPoint]:
    measured = []
    for point, metrics in zip(points.grid([SWEPT, "model=tiny_phi3"]), METRICS, strict=True):
        rows = (TRANSFORMERS, dataclasses.replace(GENAI, **metrics))
        comparison = dataclasses.replace(COMPARISON, models=rows)
        measured.append(MeasuredPoint(point, f"run{len(measured)}", comparison, is_reused=False))
    return measured


@pytest.mark.parametrize(
    ("arguments", "best"),
    [
        ((), 0),
        (("sweep.objective=min latency_ms_p50",), 1),
        (("sweep.objective=max latency_ms_p50, exact_match",), 0),
        (("sweep.constraints=peak_rss_mb<500",), 1),
        (("sweep.constraints=peak_rss_mb<500, latency_ms_p50>11",), 2),
        (("sweep.constraints=exact_match<1", "sweep.objective=exact_match"), 3),
        (("sweep.constraints=peak_rss_mb<5",), None),
    ],
)
def test_best_point_follows_objective_and_constraints(
    arguments: tuple[str, ...], best: int | None
) -> None:
    config = configs.load(overrides.from_arguments(arguments))
    measured = _measured()

    result = sweep_result.select(measured, config)

    assert result.best == (None if best is None else measured[best])
    assert list(result.fronts[0].points) == measured[:2]


def test_register_command_without_reference_drops_its_thresholds() -> None:
    config = configs.load([])
    alone = [
        dataclasses.replace(
            each, comparison=dataclasses.replace(each.comparison, models=(each.converted,))
        )
        for each in _measured()
    ]
    command = sweep_result.summary(sweep_result.select(alone, config), config, "0")
    assert command.endswith(
        "-P registry.flavor=genai -P registry.gate.exact_match.max_drop=null "
        "-P registry.gate.token_f1.max_drop=null"
    )


def test_summary_has_metrics_and_register_command() -> None:
    config = configs.load([])
    result = sweep_result.select(_measured(), config)

    summary = sweep_result.summary(result, config, "0")

    assert summary == (
        "best of 4 points: generation.max_new_tokens=1 (exact_match 100.0% (93.8% to 98.5%), "
        "token_f1 99.1%, latency_ms_p50 50.0 ms). To register it: mlflow run . --env-manager uv "
        "-e register -P generation.max_new_tokens=1 -P model=tiny_phi3 -P registry.flavor=genai"
    )
    assert "-e register --experiment-id 7 -P" in sweep_result.summary(result, config, "7")


def test_summary_explains_missing_best_point() -> None:
    config = configs.load(["sweep.constraints='peak_rss_mb<5'"])

    summary = sweep_result.summary(sweep_result.select(_measured(), config), config, "0")

    assert summary == "no point meets sweep.constraints=peak_rss_mb<5: none is the best"


def test_plots_show_measured_values() -> None:
    result = sweep_result.select(_measured(), configs.load([]))

    front = plots.draw_front(result, result.fronts[0])
    parallel = plots.draw_parallel_axes(result)

    dots = [dot for group in front.axes[0].collections for dot in group.get_offsets().tolist()]
    assert sorted(dots) == [[10.0, 0.9], [12.0, 0.9], [50.0, 1.0], [50.0, 1.0]]
    lines = [line.get_ydata() for line in parallel.axes[0].lines[: len(METRICS)]]
    assert [line[0] for line in lines] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [line[1] for line in lines] == pytest.approx([1, 0, 0, 0.5])
    assert [line[3] for line in lines[:3]] == pytest.approx([0, 1, 0.95])


def test_each_front_has_its_points_and_its_plot() -> None:
    front = "max exact_match, min latency_ms_p50; min peak_rss_mb, min latency_ms_p50"
    config = configs.load([f"sweep.front='{front}'"])
    measured = _measured()

    result = sweep_result.select(measured, config)

    assert [list(each.points) for each in result.fronts] == [measured[:2], [measured[1]]]
    assert result.on_a_front == measured[:2]
    axes = plots.draw_front(result, result.fronts[1]).axes[0]
    dots = [dot for group in axes.collections for dot in group.get_offsets().tolist()]
    assert sorted(map(tuple, dots)) == [(10, 400), (12, 400), (50, 900), (50, 900)]
    assert axes.get_ylabel().startswith("peak_rss_mb")
