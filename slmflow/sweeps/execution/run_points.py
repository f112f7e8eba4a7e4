"""Run all points of a grid, or those that a search samples."""

from slmflow.config.schema.sweep import Search
from slmflow.metrics.evaluation_inputs import numeric_columns
from slmflow.pipeline import stale_runs
from slmflow.pipeline.step import Step
from slmflow.sweeps import goals, points
from slmflow.sweeps.context import SweepContext
from slmflow.sweeps.execution import launchers, progress, search
from slmflow.sweeps.points import Point


def run_points(step: Step, context: SweepContext) -> list[Point]:
    """Run the points and return them; show the progress meanwhile.

    No run below the sweep's stays RUNNING, whatever happens.
    """
    sweep = step.config.sweep
    try:
        if sweep.search is Search.grid:
            grid = points.grid(step.overrides)
            with progress.bar(context, len(grid)):
                launchers.launch(grid, context, sweep)
            return grid
        text = sweep.front if sweep.search is Search.front else sweep.objective.partition(",")[0]
        wanted = goals.parse_goals(text, numeric_columns(step.config))
        with progress.bar(context, sweep.trials):
            return search.run_trials(step.overrides, context, sweep, wanted)
    finally:
        _end_runs_below(context)


def _end_runs_below(context: SweepContext) -> None:
    """Mark runs below the sweep's, at any depth, as KILLED if they are still RUNNING."""
    for run in stale_runs.find_running(context.experiment_id):
        ancestors = [each.info.run_id for each in stale_runs.with_ancestors(run)][1:]
        if context.run_id in ancestors:
            stale_runs.mark_killed(run)
