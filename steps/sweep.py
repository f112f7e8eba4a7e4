"""Evaluate many points of the config under one run, and name the best one.

mlflow run . -e sweep --env-manager uv -P target=cpu_fp32,cpu_int8 -P generation.temperature=0.0,0.7
python -m steps.sweep sweep=targets "sweep.constraints=peak_rss_mb<2000"
"""

from slmflow.console import messages
from slmflow.conversion.calibration import overlap
from slmflow.datasets import traced_rows
from slmflow.errors import UserError
from slmflow.metrics import evaluation_inputs
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.sweeps import outcomes, report, sweep_result
from slmflow.sweeps.arguments import parse_arguments
from slmflow.sweeps.context import SweepContext
from slmflow.sweeps.execution.run_points import run_points
from slmflow.sweeps.points import grid
from steps.evaluate import evaluate


def sweep(step: Step) -> None:
    """Run the points, log how they compare, and name the best one."""
    inputs = evaluation_inputs.read(step.config)
    overlap.check((point.config for point in grid(step.overrides)), inputs.rows)
    context = SweepContext.of(step.run, evaluate)
    points = run_points(step, context)
    gathered = outcomes.gather(points, context)
    result = sweep_result.select(gathered.measured, step.config)
    report.log(result, gathered, context.experiment_id)
    failures = outcomes.failure_summary(gathered.failed, len(points))
    is_tolerated = step.config.sweep.allow_failures and gathered.measured
    if gathered.failed and is_tolerated:
        messages.warning(failures)
    if gathered.measured:
        messages.info(sweep_result.summary(result, step.config, context.experiment_id))
    if gathered.failed and not is_tolerated:
        raise UserError(failures)


if __name__ == "__main__":
    run_step("sweep", sweep, lambda given: traced_rows.pin(*parse_arguments(given)))
