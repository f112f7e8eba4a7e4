"""The timings of a measurement, kept in the store until the tracking server has them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable

from slmflow.measurement.journal import Journal
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Timing
from slmflow.pipeline.results import Measurements
from slmflow.system import machine


class TimingJournal:
    """Timings by model and row, and each model's load time and peak memory.

    They are kept by the measurement and the machine, so that a killed measurement continues, and
    one that could not be logged is logged by the next run.
    """

    def __init__(self, measurement_key: str, models: Iterable[MeasuredModel] = ()) -> None:
        """Read what is stored; models: all that it is about."""
        facts = json.dumps([measurement_key, machine.facts(Measurements.packages)], sort_keys=True)
        names = ", ".join(sorted({model.model_name for model in models}))
        self._journal = Journal("timings", hashlib.sha256(facts.encode()).hexdigest(), names)
        self._timings: dict[str, dict[int, Timing]] = {}
        self._usage: dict[str, tuple[float, int | None]] = {}
        for record in self._journal.read():
            if "timing" in record:
                timing = Timing(**record["timing"])
                self._timings.setdefault(record["model"], {})[timing.row] = timing
            else:
                self._usage[record["model"]] = record["load_s"], record["peak_rss_bytes"]

    def timings(self, model: MeasuredModel) -> dict[int, Timing]:
        """Return the timings of a model, by the number of the row."""
        return self._timings.setdefault(model.model_uri, {})

    def usage(self, model: MeasuredModel) -> tuple[float, int | None] | None:
        """Return the load time and the peak memory of a model whose timings are complete."""
        return self._usage.get(model.model_uri)

    def put_timing(self, model: MeasuredModel, timing: Timing) -> None:
        """Store a timing."""
        self.timings(model)[timing.row] = timing
        self._journal.append({"model": model.model_uri, "timing": dataclasses.asdict(timing)})

    def put_usage(self, model: MeasuredModel, load_s: float, peak_rss_bytes: int | None) -> None:
        """Store the load time in seconds and the peak memory of the timed requests."""
        self._usage[model.model_uri] = load_s, peak_rss_bytes
        usage = {"load_s": load_s, "peak_rss_bytes": peak_rss_bytes}
        self._journal.append({"model": model.model_uri, **usage})

    def remove(self) -> None:
        """Remove all records."""
        self._journal.remove()
