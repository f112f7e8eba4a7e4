"""Parse and validate the arguments of a sweep: every problem is reported before anything runs."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.errors import HydraException

from slmflow.config import compose as configs
from slmflow.config.overrides import swept_values
from slmflow.config.schema.config import Config
from slmflow.config.schema.sweep import Launcher, Search, Sweep
from slmflow.errors import BadArguments
from slmflow.metrics.evaluation_inputs import numeric_columns
from slmflow.sweeps import goals, points
from slmflow.sweeps.points import Point

_PACKAGES = {
    Launcher.submitit_local: "submitit",
    Launcher.submitit_slurm: "submitit",
    Launcher.ray: "ray",
}
"""The package that a launcher needs; `requirements-PACKAGE.txt` installs it."""


def parse_arguments(overrides: Sequence[str]) -> tuple[Sequence[str], Config]:
    """Return the overrides, with those of the preset, and the config of the first point.

    Raises BadArguments with the problems of all points.
    """
    sweep = configs.load([o for o in overrides if o.startswith(("sweep=", "sweep."))]).sweep
    try:
        given = {override.partition("=")[0] for override in overrides}
        preset = (f"{key}={values}" for key, values in sweep.over.items() if key not in given)
        overrides = [*overrides, *preset]
        swept_values(overrides)  # raises for what is no override
    except HydraException as error:
        raise BadArguments(str(error).splitlines()[0]) from error
    if problems := list(_sweep_problems(sweep, overrides)):
        raise BadArguments("\n".join(problems))
    configs_or_errors = [_load(point) for point in points.grid(overrides)]
    problems = [str(each) for each in configs_or_errors if isinstance(each, BadArguments)]
    loaded = [each for each in configs_or_errors if isinstance(each, Config)]
    problems += _goal_problems(loaded[0]) if loaded else []
    if problems:
        lines = [line for problem in problems for line in problem.splitlines()]
        raise BadArguments("\n".join(dict.fromkeys(lines)))
    return overrides, loaded[0]


def _sweep_problems(sweep: Sweep, overrides: Sequence[str]) -> Iterator[str]:
    yield from points.find_problems(overrides, countable=sweep.search is Search.grid)
    package = _PACKAGES.get(sweep.launcher)
    if package is not None and find_spec(package) is None:
        yield (
            f"sweep.launcher={sweep.launcher.value}: {package} is not installed; install "
            f"requirements-{package}.txt and run with --env-manager local, or choose another "
            "launcher"
        )


def _load(point: Point) -> Config | BadArguments:
    try:
        return point.config
    except BadArguments as error:
        return error


def _goal_problems(config: Config) -> Iterator[str]:
    sweep, columns = config.sweep, numeric_columns(config)
    parsers: dict[str, tuple[Callable[..., Sequence[Any]], str | None]] = {
        "objective": (goals.parse_goals, sweep.objective),
        "front": (goals.parse_goals, sweep.front),
        "constraints": (goals.parse_constraints, sweep.constraints),
    }
    for key, (parse, text) in parsers.items():
        try:
            parsed = parse(text, columns)
        except ValueError as error:
            yield from (f"sweep.{key}={text}: {line}" for line in str(error).splitlines())
            continue
        if key == "front" and len(parsed) != 2:
            yield f"sweep.front={text}: give two goals, one for quality and one for speed"
