"""Goals, constraints and the Pareto front."""

import re

import pytest

from slmflow.sweeps import goals
from slmflow.sweeps.goals import Goal

COLUMNS = ["exact_match", "latency_ms_p50", "peak_rss_mb", "politeness"]


def test_goals_keep_order_and_default_direction() -> None:
    parsed = goals.parse_goals(
        "exact_match, latency_ms_p50,max politeness , min exact_match", COLUMNS
    )

    assert [str(goal) for goal in parsed] == [
        "max exact_match",
        "min latency_ms_p50",
        "max politeness",
        "min exact_match",
    ]


@pytest.mark.parametrize(
    ("text", "value", "is_met"),
    [
        ("peak_rss_mb<2000", 1999.9, True),
        ("peak_rss_mb < 2000", 2000.0, False),
        ("peak_rss_mb<=2e3", 2000.0, True),
        ("peak_rss_mb>=2000", 1999.0, False),
        ("peak_rss_mb>-1", 0.0, True),
        ("peak_rss_mb<2000", None, False),
    ],
)
def test_constraint_compares_measured_value(text: str, value: float | None, is_met: bool) -> None:
    [constraint] = goals.parse_constraints(text, COLUMNS)

    assert constraint.is_met({} if value is None else {"peak_rss_mb": value}) is is_met


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("best exact_match", "'best exact_match' is invalid: write max or min"),
        ("exact_mtch", "Did you mean exact_match?"),
        ("max exact_match,", "'' is invalid"),
    ],
)
def test_invalid_goal_is_rejected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        goals.parse_goals(text, COLUMNS)


def test_all_invalid_constraints_are_reported_together() -> None:
    with pytest.raises(ValueError, match="peak_rss_mb=2") as error:
        goals.parse_constraints("peak_rss_mb=2, size<3, politeness<1", COLUMNS)

    assert len(str(error.value).splitlines()) == 2


def test_pareto_front_excludes_dominated_and_unmeasured_points() -> None:
    wanted = [Goal("exact_match", maximize=True), Goal("latency_ms_p50", maximize=False)]
    pairs = [(0.9, 10.0), (0.9, 12.0), (0.95, 20.0), (0.8, 9.0), (0.8, 9.0), (0.7, 9.5)]
    metrics = [{"exact_match": match, "latency_ms_p50": ms} for match, ms in pairs]

    flags = goals.pareto_front([*metrics, {"exact_match": 1.0}], wanted)

    assert flags == [True, False, True, True, True, False, False]
