"""Ask both flavors every row, side by side, and keep their answers and what they cost.

mlflow run . -e measure --env-manager uv -P target=cpu_int8
python -m steps.measure target=cpu_int8 evaluation.limit=20
"""

from slmflow.datasets import rows
from slmflow.measurement import execution_providers, interleaved, unlogged_measurements
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.pipeline.results import GenaiModel, Measurements, TransformersModel
from slmflow.pipeline.step import Step, run_step


def measure(step: Step) -> Measurements:
    """Make sure of the models, ask them every row, and log what comes of it."""
    questions = rows.read(step.config)
    models, key = _models(step), step.key(Measurements)
    measured = unlogged_measurements.load(key, models)
    if measured is None:
        measured = interleaved.measure(models, questions, step.config.evaluation.seed)
        unlogged_measurements.save(key, measured)
    return log_measurements(step.run, key, measured)


def _models(step: Step) -> list[MeasuredModel]:
    """Return the model that is asked for by its address, or both flavors, the reference first."""
    if address := step.config.evaluation.model_uri:
        return [MeasuredModel.from_uri(address)]
    execution_providers.check(step.config.target)
    return [
        MeasuredModel.from_logged(step.ensure(kind)) for kind in (TransformersModel, GenaiModel)
    ]


if __name__ == "__main__":
    run_step("measure", measure)
