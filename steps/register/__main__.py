"""Register the better flavor if it passes the gate: a new version under `registry.alias`.

mlflow run . -e register --env-manager uv -P registry.name=my-model
python -m steps.register registry.gate.latency_ms_p95.max=200 registry.promote=true
"""

import mlflow

from steps.common import console
from steps.common.schema.registry import CHAMPION
from steps.common.step import Step, run_step
from steps.evaluate.result import Evaluation
from steps.register import gate, lineage, refusals, versions
from steps.register.champion import current_champion
from steps.register.choice import better
from steps.register.result import ModelVersion


def register(step: Step) -> ModelVersion:
    """Make sure of the comparison, choose by it, hold the choice to the gate, register it."""
    registry = step.config.registry
    refusals.check(step.config)
    evaluation = step.ensure(Evaluation)
    best, reason = better(evaluation.figures)
    champion = current_champion(registry.name, evaluation)
    held_against = champion.baseline if champion else None
    gate.hold(registry.gate, best, reason, evaluation.figures, held_against)
    table = mlflow.artifacts.load_text(f"runs:/{evaluation.run_id}/comparison.md")
    tags = lineage.tags(step, evaluation, best)
    number = versions.add(registry.name, registry.alias, best.model_uri, table, tags)
    leading = champion.version if champion else None
    if registry.promote and (champion is None or champion.is_beaten_by(best)):
        versions.point(registry.name, CHAMPION, number)
        leading = number
    version = ModelVersion(registry.name, number, registry.alias, best.flavor, reason, leading)
    if not step.nested:
        console.say(version.summary)
    return version


if __name__ == "__main__":
    run_step("register", register)
