"""The points of a sweep: the configurations that several values of some keys stand for."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from slmflow.config import compose as configs
from slmflow.config.schema.config import Config
from slmflow.pipeline.results import Evaluation, Result


@dataclass(frozen=True)
class Point:
    """One configuration of a sweep.

    swept: the value of each swept key; overrides: all overrides that make the config.
    """

    swept: dict[str, str]
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """The swept overrides, e.g. `target=cpu_int8 generation.temperature=0.7`."""
        return " ".join(f"{key}={value}" for key, value in self.swept.items())

    @cached_property
    def config(self) -> Config:
        """The config of the point. Raises BadArguments."""
        return configs.load(self.overrides)

    def value(self, key: str) -> str | float | bool:
        """Return the value of a swept key as a number or a boolean if it is one, else as text."""
        value = OverridesParser.create().parse_override(f"{key}={self.swept[key]}").value()
        return value if isinstance(value, str | int | float) else self.swept[key]


def grid(overrides: Sequence[str]) -> list[Point]:
    """Return the distinct points of the grid; the values of the last key change fastest.

    An interval stands for its two ends. Raises HydraException for a malformed override.
    """
    return list(_grid(tuple(overrides)))


# Cached because the points keep their configs: composing one takes a third of a second.
@cache
def _grid(overrides: tuple[str, ...]) -> tuple[Point, ...]:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    choices = [list(_choices(o, text)) for o, text in zip(parsed, overrides, strict=True)]
    is_swept = [override.is_sweep_override() for override in parsed]
    # The keys of a dict: the same overrides make one point.
    distinct = dict.fromkeys(itertools.product(*choices))
    return tuple(
        Point(dict(o.split("=", 1) for o in itertools.compress(chosen, is_swept)), chosen)
        for chosen in distinct
    )


def with_values(overrides: Sequence[str], values: Mapping[str, str]) -> Point:
    """Return the point with the given values of the swept keys."""
    names = [override.partition("=")[0] for override in overrides]
    chosen = (
        f"{name}={values[name]}" if name in values else override
        for name, override in zip(names, overrides, strict=True)
    )
    return Point({name: values[name] for name in names if name in values}, tuple(chosen))


def find_problems(overrides: Sequence[str], *, countable: bool) -> Iterator[str]:
    """Yield a message for each reason why the overrides cannot be swept.

    countable: whether every swept key needs a finite list of values.
    """
    parsed = [
        override
        for override in OverridesParser.create().parse_overrides(list(overrides))
        if override.is_sweep_override()
    ]
    if not parsed:
        yield (
            "nothing to sweep over: give a key several values, such as "
            "target=cpu_int8,cpu_int4, or choose a preset of conf/sweep, such as sweep=targets"
        )
    sections = _config_sections(Evaluation)
    for override in parsed:
        key = override.key_or_group
        if key.partition(".")[0] not in sections:
            yield (
                f"{override.input_line}: {key} does not change what is measured; give it one "
                f"value, and sweep over keys of {', '.join(sorted(sections))}"
            )
        if countable and not override.is_discrete_sweep():
            yield (
                f"{override.input_line}: a grid needs countable values; list them, or write "
                "range(start,stop,step), or set sweep.search=best or front"
            )


def _choices(override: Override, text: str) -> Iterator[str]:
    if not override.is_sweep_override():
        yield text
        return
    interval = override.value()
    if isinstance(interval, IntervalSweep):
        yield from (f"{override.key_or_group}={end}" for end in (interval.start, interval.end))
        return
    for value in override.sweep_string_iterator():
        yield f"{override.key_or_group}={value}"


def _config_sections(kind: type[Result]) -> set[str]:
    """Return the sections of the config that a result depends on, through what it consumes."""
    consumed = (_config_sections(other) for other in kind.consumes)
    return {name.partition(".")[0] for name in kind.reads}.union(*consumed)
