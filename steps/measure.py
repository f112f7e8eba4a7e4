"""Measure both flavors on every row: answers, likelihoods, latency and memory.

mlflow run . -e measure --env-manager uv -P target=cpu_int8
python -m steps.measure target=cpu_int8 evaluation.limit=20
"""

from slmflow.console import messages
from slmflow.datasets import rows
from slmflow.measurement import (
    execution_providers,
    interleaved,
    prompt_models,
    unlogged_measurements,
)
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.pipeline.results import GenaiModel, Measurements, TransformersModel
from slmflow.pipeline.step import Step, run_step


def measure(step: Step) -> Measurements:
    """Ensure the models, measure them in turns on the same rows, and log the measurements.

    Measurements that an earlier run could not log are logged instead of made again.
    """
    evaluation_rows = rows.read(step.config)
    prompt_models.check_rows(step, evaluation_rows)
    models, key = _ensure_models(step), step.key(Measurements)
    measured = unlogged_measurements.load(key, models)
    if measured is None:
        measured = interleaved.measure(models, evaluation_rows, step.config.evaluation.seed)
        unlogged_measurements.save(key, measured)
    return log_measurements(step.run, key, measured)


def _ensure_models(step: Step) -> list[MeasuredModel]:
    """Return the model of `evaluation.model_uri`, or both flavors, the reference first."""
    if model_uri := step.config.evaluation.model_uri:
        if step.config.generation.template:
            messages.warning(
                f"generation.template has no effect: {model_uri} answers with the variables of its "
                "chat template that it was logged with"
            )
        return [MeasuredModel.from_uri(model_uri)]
    execution_providers.check(step.config.target)
    return [
        MeasuredModel.from_logged(step.ensure(kind)) for kind in (TransformersModel, GenaiModel)
    ]


if __name__ == "__main__":
    run_step("measure", measure)
