"""The comparison as one HTML file that needs nothing else: no script, no link, no other file.

MLflow shows an HTML artifact in a sandboxed frame in which links lead nowhere, so what is elsewhere
is named by its address, as text.
"""

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from slmflow.metrics import subjects
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.row_comparison import Regression
from slmflow.reports import parity
from slmflow.reports.content import ReportContent
from slmflow.reports.plots import panels

_TEMPLATE = "comparison.html.jinja"
_REGRESSIONS, _UNFOLDED = 20, 5

# Of two long texts: the end of what they have in common, and what follows it.
_COMMON, _PARTED = 200, 600


def html(findings: ReportContent) -> str:
    """Return the page; whatever a model, a row or a name holds is shown as text."""
    comparison, rows = findings.comparison, findings.rows
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
        pictures=[_picture(panel, comparison) for panel in panels.PANELS],
        subjects=subjects.group_by_subject(findings.subjects) if findings.subjects else [],
        macro=subjects.MACRO,
        unscored=findings.unscored,
        parity=parity.parity_metrics(findings.origin.parity),
        rows=rows,
        regressions=[_shown(row) for row in rows.regressions[:_REGRESSIONS]] if rows else [],
        unfolded=_UNFOLDED,
        origin=findings.origin,
    )


def _picture(panel: panels.Panel, comparison: Comparison) -> dict[str, str | bool]:
    drawn = base64.b64encode(panels.svg(panel, comparison.figures)).decode()
    return {
        "shows": panel.shows,
        "address": f"data:image/svg+xml;base64,{drawn}",
        "wide": panel.columns > 1,
    }


def _shown(row: Regression) -> dict[str, object]:
    """Return a regression with each answer in two parts: what both have, and what only it has."""
    return {
        "question": _cut(row.question),
        "expected": _cut(row.expected),
        "token": row.first_diverging_token,
        "choices": row.choices,
        "answers": [_parted(text, row.same) for text in (row.reference, row.answer)],
    }


def _parted(text: str, same: int) -> tuple[str, str]:
    common = text[:same]
    return (f"…{common[-_COMMON:]}" if same > _COMMON else common), _cut(text[same:])


def _cut(text: str) -> str:
    return text if len(text) <= _PARTED else f"{text[:_PARTED]}…"
