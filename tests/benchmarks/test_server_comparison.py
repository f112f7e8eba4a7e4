"""The report on several servers, and the texts that they are asked."""

import json

from benchmarks.server_comparison import Report, Served, Visit
from benchmarks.server_load import conversation
from benchmarks.server_load.conversation import Turn
from benchmarks.server_load.streams import Round, Stream


def visit(first_s: float) -> Visit:
    turns = tuple(Turn(1400, seconds, 5.0) for seconds in (first_s, first_s / 10, first_s / 20))
    return Visit(
        Round((Stream(0.5, 2.0, 64),), 2.0),
        Round((Stream(0.5, 4.0, 64),) * 8, 4.0),
        turns,
    )


REPORT = Report(
    {
        "before": Served([visit(4.0), visit(6.0), visit(5.0)], 200_000_000, 300_000_000),
        "slmflow": Served([visit(2.0), visit(2.0), visit(2.0)], 100_000_000, 150_000_000),
    },
    ["before: an older one"],
)


def test_report_has_medians_of_each_server() -> None:
    rows = {name: cells for name, *cells in REPORT.rows()}
    assert REPORT.header() == ["figure", "before", "slmflow"]
    assert rows["1 stream, tokens/s"] == ["32", "32"]
    assert rows["8 streams, tokens/s"] == ["128", "128"]
    assert rows["conversation, turn 1, first text, ms"] == ["5,000", "2,000"]
    assert rows["turn 2 to turn 1"] == ["0.100", "0.100"]
    assert rows["memory at the peak, MB"] == ["300", "150"]
    assert "before: an older one" in REPORT.markdown()
    assert json.loads(REPORT.json())["servers"]["before"]["peak_bytes"] == 300_000_000


def test_stories_are_long_and_differ() -> None:
    stories = [conversation.story(1150, number) for number in range(5)]
    assert all(1150 <= len(story.split()) < 1170 for story in stories)
    beginnings = {" ".join(story.split()[:8]) for story in stories}
    assert len(beginnings) == len(stories)
    assert conversation.story(1150, 0) == stories[0]
