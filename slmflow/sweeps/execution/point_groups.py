"""Group the points whose converted models can be measured together with one reference."""

from collections.abc import Sequence
from typing import ClassVar

from slmflow.pipeline import keys
from slmflow.pipeline.results import Measurements, Result, TransformersModel
from slmflow.sweeps.points import Point


class _Shared(Result):
    """The part of a measurement that a group has in common: the reference, rows and seed."""

    step: ClassVar = Measurements.step
    reads: ClassVar = Measurements.reads
    consumes: ClassVar = (TransformersModel,)


def group_points(points: Sequence[Point], at_least: int) -> list[list[Point]]:
    """Return the points in groups that share the reference.

    at_least: number of groups, so that no worker is idle; the largest groups are split for that.
    """
    by_key: dict[str, list[Point]] = {}
    for point in points:
        by_key.setdefault(keys.key_of(_Shared, point.config), []).append(point)
    groups = list(by_key.values())
    while len(groups) < min(at_least, len(points)):
        largest = max(groups, key=len)
        index, half = groups.index(largest), len(largest) // 2
        groups[index : index + 1] = [largest[:half], largest[half:]]
    return groups
