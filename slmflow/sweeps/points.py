"""The points of a sweep: what several values of some keys stand for, in Hydra's grammar."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override

from slmflow.config import compose as configs
from slmflow.config.compose import Config
from slmflow.metrics.result import Evaluation
from slmflow.pipeline.results import Result


@dataclass(frozen=True)
class Point:
    """A point: `swept` are its values of the swept keys, `overrides` all that make its config."""

    swept: dict[str, str]
    overrides: tuple[str, ...]

    @property
    def name(self) -> str:
        """What the point is called, e.g. `target=cpu_int8 generation.temperature=0.7`."""
        return " ".join(f"{key}={value}" for key, value in self.swept.items())

    @cached_property
    def config(self) -> Config:
        """The config of the point. Raises BadArguments."""
        return configs.load(self.overrides)

    def value(self, key: str) -> str | float | bool:
        """Return the value of a swept key; what is no number and no truth value is text."""
        value = OverridesParser.create().parse_override(f"{key}={self.swept[key]}").value()
        return value if isinstance(value, str | int | float) else self.swept[key]


def read(overrides: Sequence[str]) -> list[Point]:
    """Return the grid of all values of each key, the last key's changing fastest, none twice.

    Overrides with one value stay as they are written; of an interval both ends count. Raises
    HydraException for what is no override.
    """
    return list(_read(tuple(overrides)))


# The points keep their configs, which take a third of a second each.
@cache
def _read(overrides: tuple[str, ...]) -> tuple[Point, ...]:
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    choices = [list(_choices(o, text)) for o, text in zip(parsed, overrides, strict=True)]
    swept = [override.is_sweep_override() for override in parsed]
    points = {}
    for chosen in itertools.product(*choices):
        several = dict(
            c.split("=", 1) for c, is_swept in zip(chosen, swept, strict=True) if is_swept
        )
        points[chosen] = Point(several, chosen)
    return tuple(points.values())


def at(overrides: Sequence[str], values: Mapping[str, str]) -> Point:
    """Return the point with these values of the swept keys."""
    names = [override.partition("=")[0] for override in overrides]
    whole = (
        f"{name}={values[name]}" if name in values else override
        for name, override in zip(names, overrides, strict=True)
    )
    return Point({name: values[name] for name in names if name in values}, tuple(whole))


def problems(overrides: Sequence[str], *, countable: bool) -> Iterator[str]:
    """Yield why there is nothing to sweep over, or what cannot be, one sentence each."""
    parsed = [
        override
        for override in OverridesParser.create().parse_overrides(list(overrides))
        if override.is_sweep_override()
    ]
    if not parsed:
        yield (
            "there is nothing to sweep over: give several values of a key, such as "
            "target=cpu_int8,cpu_int4, or a preset of conf/sweep, such as sweep=targets"
        )
    measured = _measured(Evaluation)
    for override in parsed:
        key = override.key_or_group
        if key.partition(".")[0] not in measured:
            yield (
                f"{override.input_line}: another {key} changes nothing that is measured; give one "
                f"value, and sweep over keys of {', '.join(sorted(measured))}"
            )
        if countable and not override.is_discrete_sweep():
            yield (
                f"{override.input_line}: a grid needs values that can be counted: give them one by "
                "one, or as range(start,stop,step), or set sweep.search=best or front"
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


def _measured(kind: type[Result]) -> set[str]:
    """Return the sections of the config that shape a result."""
    below = (_measured(other) for other in kind.consumes)
    return {name.partition(".")[0] for name in kind.reads}.union(*below)
