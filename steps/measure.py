"""Measure both flavors: answers and likelihoods of every row, latency and memory on a sample.

mlflow run . -e measure --env-manager uv -P target=cpu_int8
python -m steps.measure target=cpu_int8 evaluation.limit=20 measurement.timed_rows=10
"""

import dataclasses

from slmflow.conversion.calibration import overlap
from slmflow.datasets import rows, traced_rows
from slmflow.measurement import compared_models, interleaved, prompt_models
from slmflow.measurement.artifact import log_measurements
from slmflow.measurement.harness import lm_eval_tasks
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step


def measure(step: Step) -> Measurements:
    """Ensure the models, measure them on the same rows, and log the measurements.

    What an earlier run measured and could not log is not measured again.
    """
    if step.config.evaluation.tasks:
        return _run_tasks(step)
    evaluation_rows = rows.read(step.config)
    overlap.check([step.config], evaluation_rows)
    prompt_models.check_rows(step, evaluation_rows)
    key = step.key(Measurements)
    plan = interleaved.Plan.of_step(step, evaluation_rows, key)
    measured = interleaved.measure(compared_models.ensure(step), evaluation_rows, plan)
    return log_measurements(step, measured)


def _run_tasks(step: Step) -> Measurements:
    """Ensure the models, and run the tasks of lm-evaluation-harness on them in place of rows."""
    lm_eval_tasks.check(step.config)
    models = compared_models.ensure(step)
    if step.is_made_anew(Measurements):
        models = [dataclasses.replace(model, key="") for model in models]  # nothing is stored
    return log_measurements(step, lm_eval_tasks.measure(step.config, models))


if __name__ == "__main__":
    run_step("measure", measure, traced_rows.load_config)
