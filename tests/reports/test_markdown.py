"""Markdown, parsed by a CommonMark parser."""

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from slmflow.reports import markdown as md

HOSTILE = [
    "<script>alert(1)</script>",
    "a | b || c",
    r"\| and \\",
    "*bold* _it_ ~~no~~ `code` $x$",
    "[link](http://127.0.0.1) ![picture](x.png) <http://127.0.0.1>",
    "&lt; &amp; &#124;",
    "# heading",
]


def cells(markdown: str) -> list[Token]:
    parsed = MarkdownIt("commonmark").enable("table").parse(markdown)
    return [token for token in parsed if token.type == "inline"]


@pytest.mark.parametrize("text", HOSTILE)
def test_cell_shows_any_text_literally(text: str) -> None:
    _, _, cell, last = cells(md.table(["a", "b"], [[md.text(text), "end"]]))
    assert {child.type for child in cell.children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in cell.children or []) == text
    assert last.content == "end"


def test_lines_are_joined() -> None:
    assert md.text(" a\n\n| b |\r\n") == r"a \| b \|"


@pytest.mark.parametrize("text", ["models:/m-1", "a`b", "``", "a ``` b"])
def test_code_shows_any_text_literally(text: str) -> None:
    [paragraph] = cells(md.code(text))
    [code] = paragraph.children or []
    assert (code.type, code.content) == ("code_inline", text)
