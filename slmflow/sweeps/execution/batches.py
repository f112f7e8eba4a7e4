"""Batches: points that share the reference, so that their models can be measured side by side."""

from collections.abc import Sequence
from typing import ClassVar

from slmflow.flavors.transformers_result import TransformersModel
from slmflow.measurement.result import Measurements
from slmflow.pipeline import results
from slmflow.pipeline.results import Result
from slmflow.sweeps.points import Point


class _Shared(Result):
    """What the points of a batch share of a measurement: the reference, the rows, the seed."""

    step: ClassVar = Measurements.step
    reads: ClassVar = Measurements.reads
    consumes: ClassVar = (TransformersModel,)


def batches(points: Sequence[Point], at_once: int) -> list[list[Point]]:
    """Return the points in batches, in which those that share the reference are together.

    There are at least as many batches as are worked on at once, if there are as many points.
    """
    by_key: dict[str, list[Point]] = {}
    for point in points:
        key = results.key_of(_Shared, point.config)
        by_key.setdefault(key, []).append(point)
    parted = list(by_key.values())
    while len(parted) < min(at_once, len(points)):
        largest = max(parted, key=len)
        place, half = parted.index(largest), len(largest) // 2
        parted[place : place + 1] = [largest[:half], largest[half:]]
    return parted
