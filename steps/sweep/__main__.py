"""Measure many points of the config under one run, and name the best of them.

mlflow run . -e sweep --env-manager uv -P target=cpu_fp32,cpu_int8 -P generation.temperature=0.0,0.7
python -m steps.sweep sweep=targets "sweep.constraints=peak_rss_mb<2000"
"""

from steps.common import console
from steps.common.errors import UserError
from steps.common.step import Step, run_step
from steps.evaluate import inputs
from steps.sweep import answer, leftovers, outcomes, report, working
from steps.sweep.place import Place
from steps.sweep.reading import read


def sweep(step: Step) -> None:
    """Take the points, work on each, gather what came of them, log it, name the best."""
    inputs.read(step.config)
    place = Place.below(step.run)
    with leftovers.ended(step.run):
        asked = working.work(step, place)
    found = outcomes.gather(asked, place)
    answered = answer.find(found.measured, step.config)
    report.log(answered, found)
    fault = outcomes.told(found.failed, len(asked))
    tolerated = step.config.sweep.allow_failures and found.measured
    if found.failed and tolerated:
        console.warn(fault)
    if found.measured:
        console.say(answer.sentence(answered, step.config, place.experiment_id))
    if found.failed and not tolerated:
        raise UserError(fault)


if __name__ == "__main__":
    run_step("sweep", sweep, read)
