"""Work on all points of a grid, or on those that a search asks for."""

from slmflow.config.schema.sweep import Search
from slmflow.metrics.evaluation_inputs import columns
from slmflow.pipeline.step import Step
from slmflow.sweeps import goals, points
from slmflow.sweeps.context import Place
from slmflow.sweeps.execution import launchers, progress, search
from slmflow.sweeps.points import Point


def work(step: Step, place: Place) -> list[Point]:
    """Work on the points, show how it goes on meanwhile, and return them."""
    sweep = step.config.sweep
    if sweep.search is Search.grid:
        asked = points.read(step.overrides)
        with progress.shown(place, len(asked)):
            launchers.launch(asked, place, sweep)
        return asked
    text = sweep.front if sweep.search is Search.front else sweep.objective.partition(",")[0]
    with progress.shown(place, sweep.trials):
        return search.search(step.overrides, place, sweep, goals.goals(text, columns(step.config)))
