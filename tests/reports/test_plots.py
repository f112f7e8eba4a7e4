import dataclasses
import io

import pytest
from matplotlib import image
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from slmflow.metrics.model_metrics import ModelMetrics, UserMetricInfo
from slmflow.metrics.comparison import Comparison
from slmflow.reports.plots import bars, panels, quality_speed
from tests.metrics.samples import ALONE, COMPARISON, GENAI, TRANSFORMERS


def texts(axes: Axes) -> list[str]:
    return [each.get_text() for each in axes.texts]


def barred(axes: Axes) -> list[BarContainer]:
    return [each for each in axes.containers if isinstance(each, BarContainer)]


def segments(axes: Axes) -> list[list[list[float]]]:
    """Return the lines of each flavor's intervals: [flavor][metric], their ends."""
    lines = [each.errorbar.lines[2][0].get_segments() for each in barred(axes) if each.errorbar]
    return [[[float(x) for x, _ in line] for line in each] for each in lines]


@pytest.mark.parametrize("comparison", [COMPARISON, ALONE])
def test_page_is_drawn_also_where_figures_are_missing(comparison: Comparison) -> None:
    buffer = io.BytesIO()
    page = panels.draw(comparison.figures, "$\\nonsense$")
    page.savefig(buffer)
    buffer.seek(0)
    height, width, _ = image.imread(buffer, format="png").shape
    assert (width, height) == (1800, 1500)
    assert len(page.axes) == len(panels.PANELS)


def test_bars_of_quality_have_their_intervals() -> None:
    axes = Figure().subplots()
    bars.draw_quality(axes, COMPARISON.figures)
    transformers, genai = segments(axes)
    assert transformers[0] == pytest.approx([0.9487, 0.9949])
    assert genai[0] == pytest.approx([0.9385, 0.9846])
    assert transformers[2][0] == transformers[2][1]  # it has none


def test_quality_has_bleu_and_those_of_the_users_metrics_that_are_shares() -> None:
    def with_further(row: ModelMetrics, **further: float) -> ModelMetrics:
        bounds = {"bleu": (90.0, 99.0), "near_1": (0.9, 1.1)}
        own = {name: UserMetricInfo(name, share=False) for name in further}
        return dataclasses.replace(row, further=further, intervals=bounds, own=own)

    axes = Figure().subplots()
    figures = [
        with_further(TRANSFORMERS, tidy=0.25, stars=0.5, near_1=0.99),
        with_further(GENAI, tidy=1.0, stars=4.5, near_1=0.99),
    ]
    bars.draw_quality(axes, figures)
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["exact match", "contains", "token F1", "ROUGE-L", "BLEU", "tidy"]
    transformers, _ = barred(axes)
    lengths = [each.get_width() for each in transformers.patches]
    assert lengths == pytest.approx([0.974, 0.974, 0.9951, 0.9951, 0.9864, 0.25])
    assert segments(axes)[0][4] == pytest.approx([0.9, 0.99])


def test_accuracy_is_drawn_where_there_are_choices() -> None:
    axes, other = Figure().subplots(1, 2)
    figures = [dataclasses.replace(each, accuracy=0.5) for each in (TRANSFORMERS, GENAI)]
    bars.draw_quality(axes, figures)
    assert axes.get_yticklabels()[0].get_text() == "accuracy"
    quality_speed.draw(other, figures)
    assert other.get_ylabel() == "accuracy"
    assert other.lines[0].get_ydata() == [0.5]


def test_what_was_not_measured_is_said() -> None:
    axes = Figure().subplots()
    bars.draw(axes, COMPARISON.figures, "Memory", {"peak_rss_mb": "whole process"})
    assert texts(axes) == ["less is better", "638", "not\nmeasured"]


def test_quality_against_speed_has_a_point_and_intervals_for_each_flavor() -> None:
    timed = dataclasses.replace(GENAI, intervals=GENAI.intervals | {"latency_ms_p50": (30.0, 40.0)})
    axes = Figure().subplots()
    quality_speed.draw(axes, [TRANSFORMERS, timed])
    points = [(float(x), float(y)) for line in axes.lines for x, y in line.get_xydata()]
    assert points == [(449.4, 0.974), (33.3, 0.964)]
    across, up = (
        [[tuple(map(float, end)) for end in each.get_segments()[0]] for each in axes.collections][
            i::2
        ]
        for i in (0, 1)
    )
    assert across == [[(449.4, 0.974)] * 2, [(30.0, 0.964), (40.0, 0.964)]]
    assert up == [[(449.4, 0.9487), (449.4, 0.9949)], [(33.3, 0.9385), (33.3, 0.9846)]]
    assert axes.get_xscale() == "log"
    assert {"genai", "96.4%, 33.3 ms", "transformers", "better"} <= set(texts(axes))
    assert max(axes.get_yticks()) == pytest.approx(1)


def test_latencies_that_are_alike_are_on_a_linear_scale() -> None:
    axes = Figure().subplots()
    quality_speed.draw(axes, [TRANSFORMERS, dataclasses.replace(GENAI, latency_ms_p50=400.0)])
    assert (axes.get_xscale(), axes.get_xlim()[0]) == ("linear", 0)


def test_quality_against_speed_without_either() -> None:
    axes = Figure().subplots()
    quality_speed.draw(axes, [dataclasses.replace(GENAI, exact_match=None)])
    assert "not measured" in texts(axes)


def test_a_panel_by_itself_is_the_same_file_each_time() -> None:
    first, second = (panels.svg(panels.PANELS[0], COMPARISON.figures) for _ in range(2))
    assert first == second
    assert b"<svg" in first
