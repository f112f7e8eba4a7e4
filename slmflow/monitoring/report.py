"""The report of a comparison: a table, metrics and artifacts of the run."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import mlflow
import numpy as np
from matplotlib.figure import Figure

from slmflow.console import messages
from slmflow.monitoring.figures import LENGTHS, Figures
from slmflow.monitoring.findings import Finding
from slmflow.monitoring.registration import Registration
from slmflow.reports.plots.style import GREY, TEAL, create_figure, keep_spines, set_heading

JSON, PNG = "drift.json", "drift.png"

_HEADINGS = {
    "prompt_tokens": "Tokens of the prompt",
    "output_tokens": "Tokens of the answer",
    "latency_ms": "Latency in ms",
}


def log(registration: Registration, now: Figures, findings: Sequence[Finding], total: int) -> None:
    """Log the figures to the active run, as metrics and artifacts."""
    known = {f"drift.{each.figure}": each.now for each in findings if each.now is not None}
    mlflow.log_metrics({"drift.requests": total, **known})
    mlflow.log_dict(to_json(registration, now, findings, total), JSON)
    mlflow.log_figure(draw(registration, now), PNG)


def to_json(
    registration: Registration, now: Figures, findings: Sequence[Finding], total: int
) -> dict[str, Any]:
    """Return the comparison as one JSON object."""
    return {
        "model_uri": registration.model_uri,
        "model_id": registration.model_id,
        "requests": total,
        "is_beyond_limits": any(each.exceeded for each in findings),
        "figures": [asdict(each) for each in findings],
        "counts": {"registration": dict(registration.figures.counts), "now": dict(now.counts)},
    }


def show(registration: Registration, findings: Sequence[Finding], total: int) -> None:
    """Print the table."""
    rows = [
        (each.figure, _format(each.before), _format(each.now), _state(each)) for each in findings
    ]
    title = f"{registration.model_uri}: the last {total} requests"
    messages.table(title, ("figure", "at registration", "now", ""), rows)


def draw(registration: Registration, now: Figures) -> Figure:
    """Return the distributions at registration and now, as shares of requests below a value."""
    figure = create_figure(11, 3.4, f"{registration.model_uri}: registration and now")
    panels = figure.subplots(1, len(LENGTHS))
    for axes, name in zip(panels, LENGTHS, strict=True):
        both = (registration.figures.samples[name], now.samples[name])
        for label, values, color in zip(("registration", "now"), both, (GREY, TEAL), strict=True):
            if values:
                axes.step(
                    np.sort(values),
                    np.arange(1, len(values) + 1) / len(values),
                    where="post",
                    color=color,
                    label=f"{label} ({len(values)})",
                )
        set_heading(axes, _HEADINGS[name], "share of requests up to a value")
        keep_spines(axes, "left", "bottom")
        axes.set_ylim(0, 1.02)
        if any(both):
            axes.legend(frameon=False, fontsize=8, loc="lower right")
    return figure


def _state(finding: Finding) -> str:
    if finding.exceeded:
        return "beyond its limit"
    if not finding.is_compared:
        return "not compared"
    return "within its limit" if finding.is_limited else ""


def _format(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
