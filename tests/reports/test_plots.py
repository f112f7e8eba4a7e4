import dataclasses
import io

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import MetricColumn, ModelMetrics
from slmflow.metrics.uncertainty import Difference
from slmflow.reports.plots import bars, differences, panels, quality_speed
from tests.metrics.samples import COMPARISON, COMPARISON_ALONE, GENAI, TRANSFORMERS


def texts(axes: Axes) -> list[str]:
    return [each.get_text() for each in axes.texts]


def bar_containers(axes: Axes) -> list[BarContainer]:
    return [each for each in axes.containers if isinstance(each, BarContainer)]


def segments(axes: Axes) -> list[list[list[float]]]:
    """Return the ends of each model's interval lines: [model][metric]."""
    lines = [
        each.errorbar.lines[2][0].get_segments() for each in bar_containers(axes) if each.errorbar
    ]
    return [[[float(x) for x, _ in line] for line in each] for each in lines]


@pytest.mark.parametrize(("comparison", "count"), [(COMPARISON, 10), (COMPARISON_ALONE, 9)])
def test_page_is_drawn_with_missing_metrics(comparison: Comparison, count: int) -> None:
    page = panels.draw_page(comparison.models, "$\\nonsense$")
    page.savefig(io.BytesIO())
    assert len(page.axes) == count


def test_differences_are_drawn_with_the_margin() -> None:
    axes = Figure().subplots()
    perplexity = {"perplexity": Difference(1.02, 1.01, 1.04)}
    genai = dataclasses.replace(GENAI, differences=GENAI.differences | perplexity)
    differences.draw(axes, (TRANSFORMERS, genai))
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["exact match", "token f1", "perplexity"]  # politeness has another unit
    lines = [each for collection in axes.collections for each in collection.get_segments()]
    bounds = [[float(x) for x, _ in line] for line in lines]
    # A higher perplexity is on the left, where a loss is.
    assert bounds == pytest.approx(np.array([[-3.61, 1.55], [-1.02, -0.06], [-4.0, -1.0]]))
    points = [line.get_xdata() for line in axes.lines]
    assert [float(x[0]) for x in points] == pytest.approx([0, -5, -1.03, -0.41, -2.0])
    assert "+2.0 % (+1.0 to +4.0)" in texts(axes)


def test_quality_bars_have_intervals() -> None:
    axes = Figure().subplots()
    bars.draw_quality(axes, COMPARISON.models)
    transformers, genai = segments(axes)
    assert transformers[0] == pytest.approx([0.9487, 0.9949])
    assert genai[0] == pytest.approx([0.9385, 0.9846])
    assert transformers[2][0] == transformers[2][1]  # no interval


def test_quality_includes_user_metrics_that_are_shares() -> None:
    def with_user_metrics(model: ModelMetrics, **values: float) -> ModelMetrics:
        bounds = {"bleu": (90.0, 99.0), "near_1": (0.9, 1.1)}
        columns = {name: MetricColumn(name, "{:,.4g}") for name in values}
        return dataclasses.replace(
            model, user_metrics=values, intervals=bounds, user_columns=columns
        )

    axes = Figure().subplots()
    models = [
        with_user_metrics(TRANSFORMERS, tidy=0.25, stars=0.5, near_1=0.99),
        with_user_metrics(GENAI, tidy=1.0, stars=4.5, near_1=0.99),
    ]
    bars.draw_quality(axes, models)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["exact match", "contains", "token F1", "ROUGE-L", "BLEU", "tidy"]
    transformers, _ = bar_containers(axes)
    lengths = [each.get_width() for each in transformers.patches]
    assert lengths == pytest.approx([0.974, 0.974, 0.9951, 0.9951, 0.9864, 0.25])
    assert segments(axes)[0][4] == pytest.approx([0.9, 0.99])


def test_accuracy_is_drawn_if_rows_have_choices() -> None:
    axes, other = Figure().subplots(1, 2)
    models = [dataclasses.replace(each, accuracy=0.5) for each in (TRANSFORMERS, GENAI)]
    bars.draw_quality(axes, models)
    assert axes.get_yticklabels()[0].get_text() == "accuracy"
    quality_speed.draw(other, models)
    assert other.get_ylabel() == "accuracy"
    assert other.lines[0].get_ydata() == [0.5]


def test_missing_metric_is_labeled() -> None:
    axes = Figure().subplots()
    bars.draw(axes, COMPARISON.models, "Memory", {"peak_rss_mb": "whole process"})
    assert texts(axes) == ["lower is better", "638", "not\nmeasured"]


def test_quality_speed_has_points_and_intervals() -> None:
    timed = dataclasses.replace(GENAI, intervals=GENAI.intervals | {"latency_ms_p50": (30.0, 40.0)})
    axes = Figure().subplots()
    quality_speed.draw(axes, [TRANSFORMERS, timed])
    points = [(float(x), float(y)) for line in axes.lines for x, y in line.get_xydata()]
    assert points == [(449.4, 0.974), (33.3, 0.964)]
    horizontal, vertical = (
        [[tuple(map(float, end)) for end in each.get_segments()[0]] for each in axes.collections][
            i::2
        ]
        for i in (0, 1)
    )
    assert horizontal == [[(449.4, 0.974)] * 2, [(30.0, 0.964), (40.0, 0.964)]]
    assert vertical == [[(449.4, 0.9487), (449.4, 0.9949)], [(33.3, 0.9385), (33.3, 0.9846)]]
    assert axes.get_xscale() == "log"
    assert {"genai", "96.4%, 33.3 ms", "transformers", "better"} <= set(texts(axes))
    assert max(axes.get_yticks()) == pytest.approx(1)


def test_quality_speed_without_data_says_so() -> None:
    axes = Figure().subplots()
    quality_speed.draw(axes, [dataclasses.replace(GENAI, exact_match=None)])
    assert "not measured" in texts(axes)


def test_svg_is_reproducible() -> None:
    first, second = (panels.render_svg(panels.PANELS[0], COMPARISON.models) for _ in range(2))
    assert first == second
    assert b"<svg" in first
