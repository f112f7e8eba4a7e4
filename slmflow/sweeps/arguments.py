"""From the command line to a sweep: all that is wrong with any point, before anything runs."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.errors import HydraException

from slmflow.config import compose as configs
from slmflow.config.compose import Config
from slmflow.config.overrides import several
from slmflow.config.schema.sweep import Launcher, Search, Sweep
from slmflow.errors import BadArguments
from slmflow.metrics.evaluation_inputs import columns
from slmflow.sweeps import goals, points
from slmflow.sweeps.points import Point

_PACKAGES = {
    Launcher.submitit_local: "submitit",
    Launcher.submitit_slurm: "submitit",
    Launcher.ray: "ray",
}
"""What a launcher needs beside requirements.txt; `requirements-PACKAGE.txt` installs it."""


def read(given: Sequence[str]) -> tuple[Sequence[str], Config]:
    """Return the overrides with those of the preset, and the config of the first point.

    Raises BadArguments, with every problem of every point in one message.
    """
    sweep = configs.load([each for each in given if each.startswith(("sweep=", "sweep."))]).sweep
    try:
        swept = several(given)
        preset = {key: values for key, values in sweep.over.items() if key not in swept}
        # `mlflow run` gives every group one value: those of the preset stand in its place.
        kept = [each for each in given if each.partition("=")[0] not in preset]
        overrides = [*kept, *(f"{key}={values}" for key, values in preset.items())]
        several(overrides)
    except HydraException as error:
        raise BadArguments(str(error).splitlines()[0]) from error
    if problems := list(_sweep_problems(sweep, overrides)):
        raise BadArguments("\n".join(problems))
    loaded = [_loaded(point) for point in points.read(overrides)]
    problems = [str(each) for each in loaded if isinstance(each, BadArguments)]
    found = [each for each in loaded if isinstance(each, Config)]
    problems += _goal_problems(found[0]) if found else []
    if problems:
        lines = [line for problem in problems for line in problem.splitlines()]
        raise BadArguments("\n".join(dict.fromkeys(lines)))
    return overrides, found[0]


def _sweep_problems(sweep: Sweep, overrides: Sequence[str]) -> Iterator[str]:
    yield from points.problems(overrides, countable=sweep.search is Search.grid)
    package = _PACKAGES.get(sweep.launcher)
    if package is not None and find_spec(package) is None:
        yield (
            f"sweep.launcher={sweep.launcher.value}: {package} is not installed here; install "
            f"requirements-{package}.txt and run with --env-manager local, or choose another "
            "launcher"
        )


def _loaded(point: Point) -> Config | BadArguments:
    try:
        return point.config
    except BadArguments as problem:
        return problem


def _goal_problems(config: Config) -> Iterator[str]:
    sweep, known = config.sweep, columns(config)
    readers: dict[str, tuple[Callable[..., Sequence[Any]], str | None]] = {
        "objective": (goals.goals, sweep.objective),
        "front": (goals.goals, sweep.front),
        "constraints": (goals.limits, sweep.constraints),
    }
    for key, (reader, text) in readers.items():
        try:
            read_ones = reader(text, known)
        except ValueError as error:
            yield from (f"sweep.{key}={text}: {line}" for line in str(error).splitlines())
            continue
        if key == "front" and len(read_ones) != 2:
            yield f"sweep.front={text}: give two goals, of quality and of speed"
