"""The report as one self-contained HTML file: no scripts, no links, no other files.

MLflow shows an HTML artifact in a sandboxed frame where links do not work. So addresses are shown
as text.
"""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slmflow.metrics.comparison import Comparison
from slmflow.metrics.row_comparison import Regression
from slmflow.metrics.subjects import MACRO
from slmflow.metrics.verdict import GOOD_ENOUGH, NOT_GOOD_ENOUGH
from slmflow.reports import parity, tables, verdict_sentence
from slmflow.reports.content import ReportContent
from slmflow.reports.plots import panels

_TEMPLATE = "comparison.html.jinja"
_MAX_REGRESSIONS, _UNFOLDED_REGRESSIONS = 20, 5
_CLASSES = {GOOD_ENOUGH: "good", NOT_GOOD_ENOUGH: "bad"}
_MAX_PREFIX_CHARACTERS, _MAX_CHARACTERS = 200, 600


def render(content: ReportContent) -> str:
    """Return the page; texts of models and rows, and names, are escaped."""
    comparison, rows = content.comparison, content.rows
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(_TEMPLATE).render(
        comparison=comparison,
        reference=comparison.reference,
        compared=comparison.compared,
        verdict=verdict_sentence.sentence(comparison),
        advice=verdict_sentence.advice(comparison),
        outcome=_CLASSES.get(comparison.verdict.outcome if comparison.verdict else "", ""),
        headlines=tables.headlines(comparison),
        metrics=tables.metric_table(comparison),
        plots=[_plot(panel, comparison) for panel in panels.select(comparison.models)],
        subjects=tables.subject_table(content.subjects) if content.subjects else None,
        macro=MACRO,
        notes=(*content.notes, *content.warnings),
        parity=parity.parity_metrics(content.provenance.parity),
        rows=rows,
        regressions=[_excerpt(row) for row in rows.regressions[:_MAX_REGRESSIONS]] if rows else [],
        unfolded=_UNFOLDED_REGRESSIONS,
        provenance=content.provenance,
    )


def _plot(panel: panels.Panel, comparison: Comparison) -> dict[str, str | int]:
    svg = base64.b64encode(panels.render_svg(panel, comparison.models)).decode()
    return {
        "title": panel.title,
        "source": f"data:image/svg+xml;base64,{svg}",
        "width": panel.columns,
    }


def _excerpt(row: Regression) -> dict[str, object]:
    """Return a regression with shortened texts, each answer split at the end of the common part."""
    return {
        "question": _shorten(row.question),
        "expected": _shorten(row.expected),
        "token": row.first_diverging_token,
        "choices": row.choices,
        "answers": [_split(text, row.shared_length) for text in (row.reference, row.answer)],
    }


def _split(text: str, length: int) -> tuple[str, str]:
    common = text[:length]
    if length > _MAX_PREFIX_CHARACTERS:
        common = f"…{common[-_MAX_PREFIX_CHARACTERS:]}"
    return common, _shorten(text[length:])


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_CHARACTERS else f"{text[:_MAX_CHARACTERS]}…"
