"""Answers that the tracking server has not got yet: in the store, so that none is asked for twice.

An entry is there from when all rows are answered until the run has them. It stays where the server
went away meanwhile, or the process was ended, and the next run of the same takes it up.
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


def keep(key: str, measured: Sequence[Measurement]) -> None:
    """Keep what was measured; key: of measuring it. Nothing where the store cannot be written."""

    def write(folder: Path) -> None:
        (folder / _FILE).write_text(json.dumps(to_json(measured)))

    with suppress(UserError):
        store.get_or_build(_KIND, key, write)


def drop(key: str) -> None:
    """Keep no longer what was measured: the tracking server has it, or it is of other models."""
    with suppress(UserError):
        store.remove(_KIND, key)


def found(key: str, models: Sequence[MeasuredModel]) -> tuple[Measurement, ...] | None:
    """Return what is kept of these models, or None."""
    entry = store.home() / _KIND / key
    try:
        store.verify(entry)
    except store.Broken:
        return None
    kept = from_json(json.loads((entry / _FILE).read_bytes()))
    if [each.model for each in kept] != list(models):
        drop(key)
        return None
    messages.say("the answers are there, and were not logged before")
    return kept
