"""Measurements as the artifact `measurements.json` of a run of measure."""

from collections.abc import Sequence

import mlflow
from mlflow.entities import Run

from slmflow.measurement.records import Measurement, from_json, to_json
from slmflow.measurement.timing_journal import TimingJournal
from slmflow.pipeline.results import Measurements
from slmflow.system import machine


def log_measurements(run: Run, key: str, measurements: Sequence[Measurement]) -> Measurements:
    """Log each model's measurement, the reference first, and the machine to a run.

    key: of the measurements; removes their timings from the store.
    """
    facts = machine.facts(Measurements.packages)
    mlflow.log_params({f"machine.{name}": value for name, value in facts.items()})
    mlflow.log_dict(to_json(measurements), Measurements.artifact)
    TimingJournal(key).remove()
    model_uris = tuple(each.model.model_uri for each in measurements)
    return Measurements(run.info.run_id, facts, model_uris)


def load_measurements(result: Measurements) -> tuple[Measurement, ...]:
    """Return each model's measurement, the reference first."""
    return from_json(mlflow.artifacts.load_dict(f"runs:/{result.run_id}/{result.artifact}"))
