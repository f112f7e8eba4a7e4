"""The whole workflow: one command from weights to a registered, compared pair of MLflow models.

mlflow run . --env-manager uv -P model=tiny_phi3 -P target=cpu_int4
python -m steps.main target=cpu_int8 generation.temperature=0.2
"""

from steps.common import console, providers
from steps.common.step import Step, run_step
from steps.convert.result import OnnxModel
from steps.evaluate import inputs
from steps.evaluate.result import Evaluation
from steps.fetch.result import Weights
from steps.log_genai.result import GenaiModel
from steps.log_transformers.result import TransformersModel
from steps.main import summary
from steps.measure.result import Measurements
from steps.register import refusals
from steps.register.result import ModelVersion


def main(step: Step) -> None:
    """Fetch, convert, log, measure, evaluate, register: each new, or reused as nothing changed."""
    providers.check(step.config.target)
    inputs.read(step.config)
    refusals.check(step.config)
    step.ensure(Weights)
    step.ensure(OnnxModel)
    step.ensure(TransformersModel)
    step.ensure(GenaiModel)
    step.ensure(Measurements)
    evaluation = step.ensure(Evaluation)
    summary.log(evaluation)
    evaluation.show()
    version = step.ensure(ModelVersion)
    console.say(version.summary)


if __name__ == "__main__":
    run_step("main", main)
