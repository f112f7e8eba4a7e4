"""Make the previous champion of a registered model the champion again.

mlflow run . -e rollback --env-manager uv -P registry.name=my-model
python -m steps.rollback registry.name=my-model
"""

from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.registry import promotion


def rollback(step: Step) -> None:
    """Move the alias champion back, and announce it."""
    promotion.roll_back(step)


if __name__ == "__main__":
    run_step("rollback", rollback)
