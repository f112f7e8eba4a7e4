"""Where a sweep keeps what it makes."""

from dataclasses import dataclass

POINT = "slmflow.point"
"""Tag of a point's run: its name."""


@dataclass(frozen=True)
class Place:
    """The tracking server, experiment and run of a sweep, and the folder of the store.

    In values that mean the same to every process, and to every machine that shares the two.
    """

    tracking_uri: str
    experiment_id: str
    run_id: str
    home: str
