"""Work on all points of a grid, or on those that a search asks for."""

from steps.common.schema.sweep import Search
from steps.common.step import Step
from steps.evaluate.inputs import columns
from steps.sweep import goals, launching, points, progress, search
from steps.sweep.place import Place
from steps.sweep.points import Point


def work(step: Step, place: Place) -> list[Point]:
    """Work on the points, show how it goes on meanwhile, and return them."""
    sweep = step.config.sweep
    if sweep.search is Search.grid:
        asked = points.read(step.overrides)
        with progress.shown(place, len(asked)):
            launching.launch(asked, place, sweep)
        return asked
    text = sweep.front if sweep.search is Search.front else sweep.objective.partition(",")[0]
    with progress.shown(place, sweep.trials):
        return search.search(step.overrides, place, sweep, goals.goals(text, columns(step.config)))
