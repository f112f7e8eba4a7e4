"""Parse and validate the arguments of a sweep: every problem is reported before anything runs."""

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.errors import HydraException

from slmflow.config import compose as configs
from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import Reference
from slmflow.config.schema.sweep import Launcher, Search, Sweep
from slmflow.errors import BadArguments
from slmflow.metrics.evaluation_inputs import numeric_columns
from slmflow.metrics.model_metrics import needs_reference
from slmflow.sweeps import goals, points
from slmflow.sweeps.goals import Goal

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
    keys = {override.partition("=")[0] for override in overrides}
    preset = (f"{key}={values}" for key, values in sweep.over.items() if key not in keys)
    overrides = [*overrides, *preset]
    try:
        problems = list(_sweep_problems(sweep, overrides))
    except HydraException as error:
        raise BadArguments(str(error).splitlines()[0]) from error
    if problems:
        raise BadArguments("\n".join(problems))
    loaded = []
    for point in points.grid(overrides):
        try:
            loaded.append(point.config)
        except BadArguments as error:
            problems += str(error).splitlines()
    if loaded:
        problems += _goal_problems(loaded[0])
    if problems:
        raise BadArguments("\n".join(dict.fromkeys(problems)))
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


def _goal_problems(config: Config) -> Iterator[str]:
    sweep, columns = config.sweep, numeric_columns(config)
    parsers: dict[str, tuple[Callable[..., Sequence[Any]], str | None]] = {
        "objective": (goals.parse_goals, sweep.objective),
        "front": (goals.parse_goals, sweep.front.replace(";", ",")),
        "constraints": (goals.parse_constraints, sweep.constraints),
    }
    for key, (parse, text) in parsers.items():
        try:
            parsed = parse(text, columns)
        except ValueError as error:
            yield from (f"sweep.{key}={text}: {line}" for line in str(error).splitlines())
            continue
        if config.evaluation.reference is Reference.none:
            unknown = [each.column for each in parsed if needs_reference(each.column, columns)]
            for column in dict.fromkeys(unknown):
                yield (
                    f"sweep.{key}={text}: {column} compares with the reference, which "
                    "evaluation.reference=none leaves out"
                )
        if key == "front":
            yield from _front_problems(sweep, goals.parse_fronts(sweep.front, columns))


def _front_problems(sweep: Sweep, fronts: Sequence[Sequence[Goal]]) -> Iterator[str]:
    if any(len(front) != 2 for front in fronts):
        yield f"sweep.front={sweep.front}: give two goals, one for quality and one for speed"
    if len(fronts) > 1 and sweep.search is Search.front:
        yield f"sweep.front={sweep.front}: sweep.search=front searches one front; give two goals"
