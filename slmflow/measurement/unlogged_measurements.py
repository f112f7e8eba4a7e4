"""Keep measurements in the store until the tracking server has them, so no row is measured twice.

An entry exists from the last answer until the run has the artifact. If the server fails or the
process ends in between, the next run of the same measurement logs the entry.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Measurement, from_json, to_json
from slmflow.pipeline import store

_KIND, _FILE = "answers", "answers.json"


def save(key: str, measurements: Sequence[Measurement]) -> None:
    """Write the measurements with this key to the store; do nothing if the store is read-only."""

    def write(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(to_json(measurements)))

    with suppress(UserError):
        store.get_or_build(_KIND, key, write)


def remove(key: str) -> None:
    """Remove the measurements with this key from the store."""
    with suppress(UserError):
        store.remove(_KIND, key)


def load(key: str, models: Sequence[MeasuredModel]) -> tuple[Measurement, ...] | None:
    """Return the stored measurements of these models, or None.

    Removes an entry that holds measurements of other models.
    """
    entry = store.home() / _KIND / key
    try:
        store.verify(entry)
    except store.BrokenEntry:
        return None
    measurements = from_json(json.loads((entry / _FILE).read_bytes()))
    if [each.model for each in measurements] != list(models):
        remove(key)
        return None
    messages.info("using the answers of an earlier run that could not log them")
    return measurements
