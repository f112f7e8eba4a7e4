"""Register the better flavor if it passes the gate: its version is under `registry.alias`.

mlflow run . -e register --env-manager uv -P registry.name=my-model
python -m steps.register registry.gate.latency_ms_p95.max=200 registry.promote=true
"""

import mlflow

from slmflow.config.schema.registry import CHAMPION
from slmflow.console import messages
from slmflow.metrics.comparison import Comparison
from slmflow.pipeline.results import Evaluation, ModelVersion
from slmflow.pipeline.step import Step, run_step
from slmflow.registry import gate, preflight, version_tags, versions
from slmflow.registry.champion import current_champion
from slmflow.registry.ranking import chosen


def register(step: Step) -> ModelVersion:
    """Make sure of the comparison, choose by it, hold the choice to the gate, register it.

    A model that is a version already is no new one.
    """
    registry = step.config.registry
    preflight.check(step.config)
    comparison = Comparison.from_result(step.ensure(Evaluation))
    best, reason = chosen(comparison.figures, registry.flavor)
    champion = current_champion(registry.name, comparison)
    held_against = champion.against(best) if champion else None
    gate.hold(registry.gate, best, reason, comparison.figures, held_against)
    table = mlflow.artifacts.load_text(f"runs:/{comparison.run_id}/comparison.md")
    tags = version_tags.tags(step, comparison, best)
    number = versions.put(registry.name, registry.alias, best.model_uri, table, tags)
    leading = champion.version if champion else None
    if registry.promote and (champion is None or champion.is_beaten_by(best)):
        versions.point(registry.name, CHAMPION, number)
        leading = number
    if champion:
        champion.warn_if_passed_over(best, number, registry)
    version = ModelVersion(
        *(registry.name, number, registry.alias, best.flavor, reason),
        champion=leading,
        evaluation=comparison.run_id,
    )
    if not step.nested:
        messages.say(version.summary)
    return version


if __name__ == "__main__":
    run_step("register", register)
