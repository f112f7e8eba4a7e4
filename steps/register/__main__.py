"""Register the better flavor: a new version of `registry.name` under `registry.alias`.

mlflow run . -e register --env-manager uv -P registry.name=my-model
python -m steps.register target=cpu_int8
"""

import mlflow

from steps.common import console
from steps.common.step import Step, run_step
from steps.evaluate.result import Evaluation
from steps.register.choice import better
from steps.register.result import ModelVersion
from steps.register.versions import add_version


def register(step: Step) -> ModelVersion:
    """Make sure of the comparison, choose by it, and make the choice a model version."""
    evaluation = step.ensure(Evaluation)
    best, reason = better(evaluation.figures)
    table = mlflow.artifacts.load_text(f"runs:/{evaluation.run_id}/comparison.md")
    registry = step.config.registry
    number = add_version(registry.name, registry.alias, best.model_uri, table)
    version = ModelVersion(registry.name, number, registry.alias, best.flavor, reason)
    if not step.nested:
        console.say(version.summary)
    return version


if __name__ == "__main__":
    run_step("register", register)
