"""The serving report from given raw values."""

import dataclasses
import json

import pytest

from benchmarks.reports import serving_plot
from benchmarks.reports.serving_report import Line, Report
from benchmarks.server_load.batch_gain import Batch
from benchmarks.server_load.mixed_load import Load
from benchmarks.server_load.overhead import Overhead
from benchmarks.server_load.requests import Outcome
from benchmarks.server_load.streams import Round, Stream, Streams

SAME = Outcome(
    "greedy", stream=False, status="200", same=True, common=9, expected=9, is_other_baseline=False
)
WRONG = dataclasses.replace(SAME, same=False, common=3, is_other_baseline=True)
REJECTED = dataclasses.replace(SAME, status="429", same=False, common=0)
ABANDONED = dataclasses.replace(SAME, kind="abandoned", stream=True)

REPORT = Report(
    shape="tiny",
    target="cpu_int4",
    overhead=Overhead(
        (40, 44), 64, predict_s=(0.21, 0.22, 0.9), bare_s=(0.2, 0.1, 0.4), differing=1
    ),
    batches={
        "questions": Batch(
            rows=16,
            prompt_tokens=(30, 70),
            together_s=(2.0, 1.0, 4.0),
            together_tokens=(1000, 1000, 1000),
            alone_s=(4.0, 4.0, 2.0),
            alone_tokens=(1000, 1000, 1000),
            equal_rows=(16, 15, 16),
        )
    },
    streams={
        "texts": Streams(
            alone=(Round((Stream(0.1, 1.0, 64),), 1.0),),
            together=(Round((Stream(0.2, 1.0, 64), Stream(0.6, 3.0, 64)), 4.0),),
        )
    },
    load=Load(
        clients=8,
        outcomes=(SAME, WRONG, REJECTED, ABANDONED),
        seconds=2.0,
        rss_half_bytes=100_000_000,
        rss_end_bytes=110_000_000,
        waiting=0,
        running=1,
        settle_s=0.5,
    ),
)


def test_table_has_medians_ratios_and_goals() -> None:
    assert REPORT.rows() == [
        ["overhead: `predict`, ms", "220.0", ""],
        ["overhead: bare runtime, ms", "200.0", ""],
        ["overhead: ratio", "1.100", "at most 1.030, missed"],
        ["overhead: texts that differ", "1", ""],
        ["questions: one row at a time, tokens/s", "250", ""],
        ["questions: 16 rows, tokens/s", "500", ""],
        ["questions: rows, ratio", "2.00", "at least 1.70"],
        ["questions: rows of 16 that are equal", "15", ""],
        ["texts: 1 stream, tokens/s", "64", ""],
        ["texts: 2 streams, tokens/s", "32", ""],
        ["texts: streams, ratio", "0.50", "at least 1.60, missed"],
        ["texts: streams, uneven", "1.50", "at most 2.50"],
        ["texts: 1 stream, first text, ms", "100", ""],
        ["texts: 2 streams, first text, ms", "400", ""],
        ["load: requests/s", "2.00", ""],
        ["load: requests that failed", "1", "at most 0, missed"],
        ["load: of 2 greedy, differing", "1", "at most 0, missed"],
        ["load: of 0 sampled, differing", "0", "at most 0"],
        ["load: of 1 abandoned, differing", "0", "at most 0"],
        ["load: answers to another question", "1", "at most 0, missed"],
        ["load: memory after the first half, MB", "100", ""],
        ["load: memory at the end, MB", "110", ""],
        ["load: memory growth", "10.0%", "at most 5.0%, missed"],
        ["load: still waiting or running", "1", "at most 0, missed"],
    ]


@pytest.mark.parametrize(
    ("line", "goal"),
    [
        (Line("ratio", 1.7, minimum=1.7), "at least 1.70"),
        (Line("ratio", 1.69, minimum=1.7), "at least 1.70, missed"),
        (Line("ratio", 2.5, maximum=2.5), "at most 2.50"),
        (Line("ratio", 2.51, maximum=2.5), "at most 2.50, missed"),
    ],
)
def test_goal_includes_its_limit(line: Line, goal: str) -> None:
    assert line.cells() == ["ratio", f"{line.value:.2f}", goal]


def test_markdown_has_statuses_and_prompt_lengths() -> None:
    page = REPORT.markdown()

    assert "| questions: rows, ratio | 2.00 | at least 1.70 |" in page
    assert "statuses 200: 3, 429: 1" in page
    assert "a prompt of 40 to 44 tokens" in page


def test_json_has_all_raw_values() -> None:
    fields = json.loads(REPORT.json())

    assert fields["overhead"]["predict_s"] == [0.21, 0.22, 0.9]
    assert fields["streams"]["texts"]["together"][0]["streams"][1]["first_s"] == 0.6
    assert fields["load"]["outcomes"][1]["common"] == 3
    assert fields["figures"]["overhead: ratio"] == pytest.approx(1.1)
    ratios = fields["medians of ratios"]
    assert ratios["predict to the bare runtime"] == pytest.approx(2.2)
    assert ratios["questions, rows together to one at a time"] == pytest.approx(2)
    assert ratios["texts, streams together to alone"] == pytest.approx(0.5)


def test_plot_has_two_bars_per_comparison() -> None:
    overhead, batch, streams, memory = serving_plot.panels(REPORT)

    assert overhead.values == pytest.approx((320, 64 / 0.22))
    assert batch.values == (250, 500)
    assert streams.values == (64, 32)
    assert streams.names == ("1 alone", "2 at once")
    assert memory.values == (100, 110)
    assert len(serving_plot.draw(REPORT).axes) == 4
