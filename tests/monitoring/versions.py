"""A registered version with the measurement of its registration, in a real registry."""

from collections.abc import Sequence

import mlflow
from mlflow import MlflowClient

from slmflow.measurement import records
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import Answer, Measurement, Timing
from slmflow.pipeline.results import Measurements


def measurement(
    model_uri: str, answers: Sequence[Answer], latencies_s: Sequence[float]
) -> Measurement:
    """Return the measurement of a GenAI model."""
    timings = [Timing(row, latency, latency / 2, 12, 3) for row, latency in enumerate(latencies_s)]
    model = MeasuredModel("genai", model_uri, "", 1)
    return Measurement(model, 1.0, 1, tuple(answers), None, timings=tuple(timings))


def register(
    name: str, model_uri: str, answers: Sequence[Answer], latencies_s: Sequence[float]
) -> str:
    """Register a logged model with its measurement, as `candidate`; return the version's URI."""
    with mlflow.start_run() as run:
        logged = records.to_json([measurement(model_uri, answers, latencies_s)])
        mlflow.log_dict(logged, Measurements.artifact)
    client = MlflowClient()
    client.create_registered_model(name)
    tags = {
        "slmflow_run_measure": run.info.run_id,
        "slmflow_flavor": "genai",
        "slmflow_exact_match": "0.9",
        "slmflow_token_f1": "0.95",
    }
    version = client.create_model_version(name, model_uri, tags=tags).version
    client.set_registered_model_alias(name, "candidate", version)
    return f"models:/{name}/{version}"
