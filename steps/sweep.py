"""Measure many points of the config under one run, and name the best of them.

mlflow run . -e sweep --env-manager uv -P target=cpu_fp32,cpu_int8 -P generation.temperature=0.0,0.7
python -m steps.sweep sweep=targets "sweep.constraints=peak_rss_mb<2000"
"""

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.metrics import evaluation_inputs
from slmflow.pipeline.step import Step, run_step
from slmflow.sweeps import best_point, outcomes
from slmflow.sweeps.arguments import read
from slmflow.sweeps.context import Place
from slmflow.sweeps.execution import run_points, unfinished_runs
from slmflow.sweeps.reports import report


def sweep(step: Step) -> None:
    """Take the points, work on each, gather what came of them, log it, name the best."""
    evaluation_inputs.read(step.config)
    place = Place.below(step.run)
    with unfinished_runs.ended(step.run):
        asked = run_points.work(step, place)
    found = outcomes.gather(asked, place)
    answered = best_point.find(found.measured, step.config)
    report.log(answered, found)
    fault = outcomes.told(found.failed, len(asked))
    tolerated = step.config.sweep.allow_failures and found.measured
    if found.failed and tolerated:
        messages.warn(fault)
    if found.measured:
        messages.say(best_point.sentence(answered, step.config, place.experiment_id))
    if found.failed and not tolerated:
        raise UserError(fault)


if __name__ == "__main__":
    run_step("sweep", sweep, read)
