import dataclasses
from html.parser import HTMLParser

import pandas as pd

from slmflow.metrics.row_comparison import RowComparison
from slmflow.reports import html_report, verdict_sentence
from tests.metrics.samples import ANSWER_TABLE, HOSTILE, REPORT, REPORT_ALONE


class Parsed(HTMLParser):
    """The tags of a page, their attributes, and the text."""

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
    return RowComparison.from_table(pd.DataFrame(list(rows), columns=list(ANSWER_TABLE)))


def test_hostile_texts_are_escaped() -> None:
    page = Parsed(html_report.render(REPORT))
    assert page.text.count(" ".join(HOSTILE.split())) == 2
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "a", "link", "iframe", "object", "form"}
    attributes = [(name, value or "") for _, each in page.tags for name, value in each.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    sources = [value for name, value in attributes if name in ("src", "href", "srcset", "style")]
    assert sources
    assert all(value.startswith("data:image/svg+xml;base64,") for value in sources)


def test_page_has_every_section() -> None:
    page = Parsed(html_report.render(REPORT)).text
    for text in (
        verdict_sentence.render(REPORT.comparison),
        "transformers (fp32) genai (int4) difference p",
        "exact_match share of answers equal to the expected text, ignoring case, spaces and a "
        "final period 97.4% 94.9% to 99.5% 96.4%",
        "99.1% -0.4 points -1.0 to -0.06 0.031 worse",
        "politeness mean of my_metrics:politeness 3.25 3 to 3.5 0.5 -2.8 -3.1 to -2.4 <0.001 worse",
        "The times rest on 32 rows.",
        "Of 5 rows, 2 are answered worse",
        "0.0391 nats",
        "cpu Z80 <at> 4 MHz",
        "model genai models:/m-2",
        "conversion run f00d",
    ):
        assert text in page


def test_difference_of_two_answers_is_marked() -> None:
    html = html_report.render(REPORT)
    assert "It is Par<mark>is.</mark>" in html
    assert "It is Par<i>ends here</i>" in html


def test_long_texts_and_many_regressions_are_shortened() -> None:
    same, rest = "a" * 5_000, "b" * 5_000
    row = ("q" * 5_000, same + rest, same + rest, same, 7)
    html = html_report.render(dataclasses.replace(REPORT, rows=with_rows(*[row] * 30)))
    assert f"…{'a' * 200}<mark>{'b' * 600}…</mark>" in html
    assert "a" * 601 not in html
    assert "q" * 601 not in html
    page = Parsed(html)
    assert len([tag for tag, _ in page.tags if tag == "article"]) == 20
    assert "15 more" in page.text
    assert "10 smaller regressions are not shown." in page.text


def test_page_says_if_there_are_no_regressions() -> None:
    rows = with_rows(("q", "a", "a", "a", None))
    page = Parsed(html_report.render(dataclasses.replace(REPORT, rows=rows))).text
    assert "No regressions: transformers answers no row better than genai." in page


def test_single_model_has_no_comparison() -> None:
    page = Parsed(html_report.render(REPORT_ALONE)).text
    assert "models:/chat$/1 Nothing is compared: models:/chat$/1 is evaluated alone. " in page
    for absent in ("Row by row", "Parity", "transformers 97.4%", "paired test", "difference"):
        assert absent not in page
