"""What all pictures of the comparison share: colors, and what a panel looks like."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from slmflow.metrics.model_metrics import ModelMetrics

INK, FAINT, RULE = "#0f172a", "#64748b", "#cbd5e1"
GREY, TEAL = "#94a3b8", "#0d9488"
_LONGEST = 24


def colored(figures: Sequence[ModelMetrics]) -> list[tuple[ModelMetrics, str]]:
    """Return each flavor with its color: the reference in grey, what is compared in teal."""
    return list(zip(figures, (GREY, TEAL)[-len(figures) :], strict=True))


def short(name: str) -> str:
    """Return a name, cut where it would take the room of what is drawn."""
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def head(axes: Axes, heading: str, hint: str) -> None:
    """Write a panel's heading, and a faint line of what to look for."""
    axes.set_title(f"{heading}\n", loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.text(0, 1.03, hint, transform=axes.transAxes, fontsize=9, color=FAINT)


def frame(axes: Axes, *sides: str) -> None:
    """Leave of a panel's frame these sides, faintly, and no tick marks."""
    axes.tick_params(length=0, labelsize=9, labelcolor=FAINT)
    for side, spine in axes.spines.items():
        spine.set_visible(side in sides)
        spine.set_color(RULE)
