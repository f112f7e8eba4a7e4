"""Which point is the best, which are on the front, and the line that says so."""

import dataclasses

import pytest

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.sweeps import best_point, points
from slmflow.sweeps.outcomes import Measured
from slmflow.sweeps.reports import front_plot, parallel_plot
from tests.metrics.figures import EVALUATION, GENAI, TRANSFORMERS

# Slow and right; fast and nearly right; slower and worse than that; not measured in both.
FIGURES = (
    {"exact_match": 1.0, "latency_ms_p50": 50.0, "peak_rss_mb": 900.0},
    {"exact_match": 0.9, "latency_ms_p50": 10.0, "peak_rss_mb": 400.0},
    {"exact_match": 0.9, "latency_ms_p50": 12.0, "peak_rss_mb": 400.0},
    {"exact_match": 0.95, "latency_ms_p50": None},
)
SWEPT = "generation.max_new_tokens=1,2,3,4"


def _measured() -> list[Measured]:
    made = []
    for point, figures in zip(points.read([SWEPT, "model=tiny_phi3"]), FIGURES, strict=True):
        rows = (TRANSFORMERS, dataclasses.replace(GENAI, **figures))
        evaluation = dataclasses.replace(EVALUATION, figures=rows)
        made.append(Measured(point, f"run{len(made)}", evaluation, reused=False))
    return made


@pytest.mark.parametrize(
    ("asked", "best"),
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
def test_the_best_is_that_of_the_objective_within_the_limits(
    asked: tuple[str, ...], best: int | None
) -> None:
    config = configs.load(overrides.from_arguments(asked, configs.TEXTS))
    measured = _measured()

    found = best_point.find(measured, config)

    assert found.best == (None if best is None else measured[best])
    assert list(found.on_front) == measured[:2]


def test_the_line_gives_the_figures_and_the_command() -> None:
    config = configs.load([])
    found = best_point.find(_measured(), config)

    line = best_point.sentence(found, config, "0")

    assert line == (
        "best of 4 points: generation.max_new_tokens=1 (exact_match 100.0% (93.8% to 98.5%), "
        "token_f1 99.1%, latency_ms_p50 50.0 ms). To register it: mlflow run . --env-manager uv "
        "-e register -P generation.max_new_tokens=1 -P model=tiny_phi3 -P registry.flavor=genai"
    )
    assert "-e register --experiment-id 7 -P" in best_point.sentence(found, config, "7")


def test_without_a_best_the_line_says_why() -> None:
    config = configs.load(["sweep.constraints='peak_rss_mb<5'"])

    line = best_point.sentence(best_point.find(_measured(), config), config, "0")

    assert line == "no point keeps sweep.constraints=peak_rss_mb<5: there is no best one"


def test_the_plots_show_what_was_measured() -> None:
    found = best_point.find(_measured(), configs.load([]))

    front, parallel = front_plot.draw(found), parallel_plot.draw(found)

    dots = [dot for group in front.axes[0].collections for dot in group.get_offsets().tolist()]
    assert sorted(dots) == [[10.0, 0.9], [12.0, 0.9], [50.0, 1.0], [50.0, 1.0]]
    lines = [line.get_ydata() for line in parallel.axes[0].lines[: len(FIGURES)]]
    assert [line[0] for line in lines] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert [line[1] for line in lines] == pytest.approx([1, 0, 0, 0.5])
    assert [line[3] for line in lines[:3]] == pytest.approx([0, 1, 0.95])
