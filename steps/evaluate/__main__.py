"""Set both flavors side by side, by what they answered to the same rows.

python -m steps.evaluate model=tiny_phi3 target=cpu_int4 evaluation.limit=20
mlflow run . -e evaluate --env-manager uv -P model_uri=models:/my-chat-model/1
"""

from steps.common import console
from steps.common.step import Step, run_step
from steps.convert.result import OnnxModel
from steps.evaluate import inputs, report, subjects
from steps.evaluate.compare import compare
from steps.evaluate.result import Evaluation
from steps.measure.result import Measurements


def evaluate(step: Step) -> Evaluation:
    """Make sure of the answers to every row, score them, and log and show the comparison."""
    given = inputs.read(step.config)
    measurements = step.ensure(Measurements)
    measured = measurements.load()
    tokenizer = step.ensure(OnnxModel).folder / "tokenizer.json" if len(measured) > 1 else None
    compared = compare(step.config, given, measured, tokenizer)
    figures = tuple(each.figures for each in compared)
    evaluation = Evaluation(step.run.info.run_id, step.config.model.name, figures)
    of_subjects = subjects.by_subject(compared)
    subjects.log(of_subjects)
    unscored = subjects.unscored(compared)
    for sentence in unscored:
        console.warn(sentence)
    report.log(evaluation, [*unscored, subjects.markdown(of_subjects)])
    if not step.nested:
        evaluation.show()
    return evaluation


if __name__ == "__main__":
    run_step("evaluate", evaluate)
