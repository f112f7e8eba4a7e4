"""Goals, limits and the front."""

import pytest

from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal

COLUMNS = ["exact_match", "latency_ms_p50", "peak_rss_mb", "politeness"]


def test_goals_are_read_in_order_and_know_what_is_better() -> None:
    found = goals.goals("exact_match, latency_ms_p50,max politeness , min exact_match", COLUMNS)

    assert [str(goal) for goal in found] == [
        "max exact_match",
        "min latency_ms_p50",
        "max politeness",
        "min exact_match",
    ]


@pytest.mark.parametrize(
    ("text", "figure", "kept"),
    [
        ("peak_rss_mb<2000", 1999.9, True),
        ("peak_rss_mb < 2000", 2000.0, False),
        ("peak_rss_mb<=2e3", 2000.0, True),
        ("peak_rss_mb>=2000", 1999.0, False),
        ("peak_rss_mb>-1", 0.0, True),
        ("peak_rss_mb<2000", None, False),
    ],
)
def test_a_limit_is_kept_or_not(text: str, figure: float | None, kept: bool) -> None:
    [limit] = goals.limits(text, COLUMNS)

    assert limit.keeps({} if figure is None else {"peak_rss_mb": figure}) is kept


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("best exact_match", "'best exact_match' cannot be read: write max or min"),
        ("exact_mtch", "exact_mtch: not a figure. Did you mean exact_match?"),
        ("max exact_match,", "'' cannot be read"),
    ],
)
def test_what_is_no_goal_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match="^" + said.replace("?", r"\?")):
        goals.goals(text, COLUMNS)


def test_all_problems_of_limits_come_at_once() -> None:
    with pytest.raises(ValueError, match="peak_rss_mb=2") as refusal:
        goals.limits("peak_rss_mb=2, size<3, politeness<1", COLUMNS)

    assert len(str(refusal.value).splitlines()) == 2


def test_on_the_front_is_what_no_other_beats() -> None:
    wanted = [Goal("exact_match", more=True), Goal("latency_ms_p50", more=False)]
    pairs = [(0.9, 10.0), (0.9, 12.0), (0.95, 20.0), (0.8, 9.0), (0.8, 9.0), (0.7, 9.5)]
    figures = [{"exact_match": match, "latency_ms_p50": ms} for match, ms in pairs]

    flags = goals.front([*figures, {"exact_match": 1.0}], wanted)

    assert flags == [True, False, True, True, True, False, False]
