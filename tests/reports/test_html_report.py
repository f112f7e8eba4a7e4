import dataclasses
import re
from html.parser import HTMLParser

import pandas as pd

from slmflow.metrics.row_comparison import RowComparison
from slmflow.reports import html_report
from tests.metrics.samples import FINDINGS, FINDINGS_ALONE, HOSTILE, TABLE


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def with_rows(*rows: tuple[str, str, str, str, int | None]) -> RowComparison:
    return RowComparison.of(pd.DataFrame(list(rows), columns=list(TABLE)))


def test_what_models_and_rows_say_is_text() -> None:
    shown = Parsed(html_report.html(FINDINGS))
    assert shown.text.count(" ".join(HOSTILE.split())) == 2
    names = {tag for tag, _ in shown.tags}
    assert not names & {"script", "a", "link", "iframe", "object", "form"}
    attributes = [(name, value or "") for _, given in shown.tags for name, value in given.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    sources = [value for name, value in attributes if name in ("src", "href", "srcset", "style")]
    assert sources
    assert all(value.startswith("data:image/svg+xml;base64,") for value in sources)


def test_it_tells_all() -> None:
    shown = Parsed(html_report.html(FINDINGS)).text
    for told in (
        FINDINGS.comparison.verdict,
        "exact_match answers that are the expected text 97.4% 94.9% to 99.5% 96.4%",
        "99.1% 0.031 worse",
        "politeness mean of my_metrics:politeness 3.25 3 to 3.5 0.5 <0.001 worse",
        "Of 5 rows 2 are answered worse",
        "0.0391 nats",
        "cpu Z80 <at> 4 MHz",
        "model genai models:/m-2",
        "conversion run f00d",
    ):
        assert told in shown


def test_where_two_answers_part_is_marked() -> None:
    html = html_report.html(FINDINGS)
    assert "It is Paris<mark>.</mark>" in html
    assert "It is Paris<i>ends here</i>" in html


def test_long_texts_and_many_regressions_are_cut() -> None:
    same, rest = "a" * 5_000, "b" * 5_000
    row = ("q" * 5_000, same + rest, same + rest, same, 7)
    html = html_report.html(dataclasses.replace(FINDINGS, rows=with_rows(*[row] * 30)))
    assert f"…{'a' * 200}<mark>{'b' * 600}…</mark>" in html
    assert "a" * 601 not in html
    assert "q" * 601 not in html
    shown = Parsed(html)
    assert len([tag for tag, _ in shown.tags if tag == "article"]) == 20
    assert "15 more" in shown.text
    assert "And 10 that are less bad." in shown.text


def test_no_regressions() -> None:
    rows = with_rows(("q", "a", "a", "a", None))
    shown = Parsed(html_report.html(dataclasses.replace(FINDINGS, rows=rows))).text
    assert "There are no regressions: transformers answers no row better than genai." in shown


def test_a_model_alone() -> None:
    shown = Parsed(html_report.html(FINDINGS_ALONE)).text
    assert re.search(r"models:/chat\$/1 genai: 96.4% exact match, 33.3 ms median latency. ", shown)
    for left_out in ("Row by row", "Parity", "transformers 97.4%", "by a paired test"):
        assert left_out not in shown
