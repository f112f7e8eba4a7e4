"""Measure both flavors on the same rows and set them side by side.

python -m steps.evaluate model=tiny_phi3 target=cpu_int4 evaluation.limit=20
"""

from steps.common import providers, rows, user_metrics
from steps.common.step import Step, run_step
from steps.evaluate import report
from steps.evaluate.compare import compare
from steps.evaluate.figures import COLUMNS
from steps.evaluate.measure import measure
from steps.evaluate.result import Evaluation
from steps.log_genai.result import GenaiModel
from steps.log_transformers.result import TransformersModel


def evaluate(step: Step) -> Evaluation:
    """Make sure of both models, ask them every row, and log and show the comparison."""
    questions = rows.read(step.config)
    further = user_metrics.load(step.config.evaluation.metrics, COLUMNS, questions[0].answer)
    providers.check(step.config.target)
    models = [step.ensure(TransformersModel), step.ensure(GenaiModel)]
    measured = [(model, measure(model, questions)) for model in models]
    figures = compare(step.config, questions, measured, further)
    evaluation = Evaluation(step.run.info.run_id, step.config.model.name, figures)
    report.log(evaluation)
    if not step.nested:
        evaluation.show()
    return evaluation


if __name__ == "__main__":
    run_step("evaluate", evaluate)
