"""The first line of a report: is the converted model good enough to serve?"""

from slmflow.config import target_advice
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.verdict import (
    GOOD_ENOUGH,
    NOT_GOOD_ENOUGH,
    TOO_FEW_ROWS,
    Verdict,
)
from slmflow.reports.formatting import format_difference

_TITLES = {"exact_match": "exact match", "token_f1": "token F1"}


def render(comparison: Comparison) -> str:
    """Return the sentence, and what to do about it."""
    return f"{sentence(comparison)} {advice(comparison)}".rstrip()


def sentence(comparison: Comparison) -> str:
    """Return whether the converted model is good enough, with the differences that decided."""
    compared, reference, verdict = comparison.compared, comparison.reference, comparison.verdict
    if reference is None:
        reason = (
            f"{compared.model_uri} is evaluated alone"
            if compared.target is None
            else f"{compared.flavor} is evaluated without a reference (evaluation.reference=none)"
        )
        return f"Nothing is compared: {reason}."
    if verdict is None:
        return (
            f"Nothing tells whether {compared.flavor} is good enough to serve: no measure of "
            f"quality exists for both {reference.flavor} and {compared.flavor}."
        )
    start, end = {
        GOOD_ENOUGH: (f"{compared.flavor} is good enough to serve", "within"),
        NOT_GOOD_ENOUGH: (f"{compared.flavor} is not good enough to serve", "beyond"),
        TOO_FEW_ROWS: (
            f"{compared.n:,} rows are too few to tell whether {compared.flavor} is good enough to "
            "serve",
            "partly beyond",
        ),
    }[verdict.outcome]
    rows = "" if verdict.outcome == TOO_FEW_ROWS else f" on {compared.n:,} rows"
    return (
        f"{start}: against {reference.flavor}{rows}, {_changes(comparison, verdict)}, {end} the "
        f"margin of {_margin(comparison, verdict)}."
    )


def advice(comparison: Comparison) -> str:
    """Return what to try, or how many rows would tell; empty if there is nothing to do."""
    verdict = comparison.verdict
    if verdict is None or verdict.outcome == GOOD_ENOUGH:
        return ""
    if verdict.outcome == TOO_FEW_ROWS:
        if verdict.rows_needed is None:
            return "More rows will hardly tell, because the difference is as large as the margin."
        return f"It takes about {_round_up(verdict.rows_needed):,} rows to tell."
    if not verdict.suggestions:
        return "Its weights are not rounded, so look at the parity of the conversion."
    return target_advice.describe(verdict.suggestions)


def _changes(comparison: Comparison, verdict: Verdict) -> str:
    """Return the difference in each metric that decided, with its interval."""
    compared = comparison.compared
    cells = {
        name: format_difference(compared.column(name), compared.differences[name])
        for name in verdict.metrics
    }
    first, *others = (
        f"{_TITLES.get(name, name)} changes by {cell.value} (95 % interval {cell.interval})"
        if name == verdict.metrics[0]
        else f"{_TITLES.get(name, name)} by {cell.text}"
        for name, cell in cells.items()
    )
    return " and ".join([", ".join([first, *others[:-1]]), *others[-1:]])


def _margin(comparison: Comparison, verdict: Verdict) -> str:
    are_ratios = {comparison.compared.column(name).is_ratio for name in verdict.metrics}
    percent = f"{100 * verdict.margin:g}"
    units = [unit for is_ratio, unit in ((False, "points"), (True, "%")) if is_ratio in are_ratios]
    return " or ".join(f"{percent} {unit}" for unit in units)


def _round_up(number: int) -> int:
    """Round up to two digits."""
    unit: int = 10 ** max(0, len(str(number)) - 2)
    return -(-number // unit) * unit
