"""The description of a sweep's run in the MLflow UI: the best point, and the points by front."""

from collections.abc import Sequence

from slmflow.metrics.model_metrics import METRIC_COLUMNS
from slmflow.reports import markdown as md
from slmflow.sweeps.goals import Goal
from slmflow.sweeps.outcomes import MeasuredPoint, Outcomes
from slmflow.sweeps.sweep_result import SweepResult

_MAX_LENGTH = 5000
_MAX_POINTS = 20
_PADDING = "&emsp;"  # the UI leaves no space between the columns of a table


def render(result: SweepResult, outcomes: Outcomes, experiment_id: str) -> str:
    """Return the description as Markdown of at most 5,000 characters, with links to the points."""
    goals = _goals(result)
    listed = _in_order(result)
    rows = [_row(point, result, goals, experiment_id) for point in listed[:_MAX_POINTS]]
    header = [f"{name}{_PADDING}" for name in ("point", *(goal.column for goal in goals), "")]
    parts = [_best(result, goals, experiment_id), _counts(result, outcomes)]
    if rows:
        parts.append(md.table(header, rows, left_aligned=header))
    if len(listed) > _MAX_POINTS:
        parts.append(f"{len(listed) - _MAX_POINTS} more points are in `comparison.json`.")
    while len("\n\n".join(parts)) > _MAX_LENGTH and rows:
        rows.pop()
        parts[2] = md.table(header, rows, left_aligned=header)
    return "\n\n".join(parts)[:_MAX_LENGTH]


def _best(result: SweepResult, goals: Sequence[Goal], experiment_id: str) -> str:
    if result.best is None:
        return "**There is no best point**: none was measured that meets `sweep.constraints`."
    metrics = ", ".join(f"{g.column} {_value(result.best, g)}" for g in goals)
    return f"**The best point is {_link(result.best, experiment_id)}**: {metrics}."


def _counts(result: SweepResult, outcomes: Outcomes) -> str:
    fronts = "; ".join(
        f"{len(front.points)} on the front of " + " and ".join(f"`{goal}`" for goal in front.goals)
        for front in result.fronts
    )
    ended = {"pruned": len(outcomes.pruned), "failed": len(outcomes.failed)}
    others = "".join(f", {count} {outcome}" for outcome, count in ended.items() if count)
    return f"{len(outcomes.measured)} points measured{others}: {fronts}."


def _row(
    point: MeasuredPoint, result: SweepResult, goals: Sequence[Goal], experiment_id: str
) -> list[str]:
    marks = ["best"] if point is result.best else []
    for number, front in enumerate(result.fronts, start=1):
        if point in front.points:
            marks.append("front" if len(result.fronts) == 1 else f"front {number}")
    cells = [_link(point, experiment_id), *(_value(point, g) for g in goals), ", ".join(marks)]
    return [f"{cell}{_PADDING}" for cell in cells]


def _goals(result: SweepResult) -> list[Goal]:
    """Return the goals of the objective and the fronts, each column once."""
    goals = [*result.objective, *(goal for front in result.fronts for goal in front.goals)]
    by_column: dict[str, Goal] = {}
    for goal in goals:
        by_column.setdefault(goal.column, goal)
    return list(by_column.values())


def _in_order(result: SweepResult) -> list[MeasuredPoint]:
    """Return the best point, those on a front, then the others in the order of the sweep."""
    on_a_front = result.on_a_front
    return sorted(result.measured, key=lambda p: (p is not result.best, p not in on_a_front))


def _link(point: MeasuredPoint, experiment_id: str) -> str:
    address = f"#/experiments/{experiment_id}/runs/{point.run_id}"
    return f"[{md.text(point.point.name)}]({address})"


def _value(point: MeasuredPoint, goal: Goal) -> str:
    value = point.metrics.get(goal.column)
    if value is None:
        return "-"
    column = METRIC_COLUMNS.get(goal.column)
    return str(column.format if column else "{:,.4g}").format(value)
