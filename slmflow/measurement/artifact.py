"""Measurements as the artifact `measurements.json` of a run of measure."""

from collections.abc import Sequence

import mlflow

from slmflow.measurement.records import Measurement, from_json, to_json
from slmflow.measurement.timing_journal import TimingJournal
from slmflow.pipeline import keys, run_links, runs
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step
from slmflow.system import machine


def log_measurements(step: Step, measurements: Sequence[Measurement]) -> Measurements:
    """Log each model's measurement, the reference first, and the machine to the step's run.

    Removes their timings from the store.
    """
    facts = machine.facts(Measurements.packages)
    mlflow.set_tag(runs.ANSWERS_KEY, keys.answers_key(step.config))
    mlflow.log_params({f"machine.{name}": value for name, value in facts.items()})
    mlflow.log_dict(to_json(measurements), Measurements.artifact)
    run_links.log_models_in(each.model.model_id for each in measurements)
    TimingJournal(step.key(Measurements)).remove()
    model_uris = tuple(each.model.model_uri for each in measurements)
    return Measurements(step.run.info.run_id, facts, model_uris)


def load_measurements(result: Measurements) -> tuple[Measurement, ...]:
    """Return each model's measurement, the reference first."""
    return from_json(mlflow.artifacts.load_dict(f"runs:/{result.run_id}/{result.artifact}"))
