"""Register the better flavor under `registry.alias` if it passes the gate.

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
from slmflow.registry.champion import find_champion
from slmflow.registry.ranking import select_flavor


def register(step: Step) -> ModelVersion:
    """Evaluate, select the better flavor, enforce the gate, and register a version.

    A model that is already a version is not registered again.
    """
    registry = step.config.registry
    preflight.validate_config(step.config)
    comparison = Comparison.from_result(step.ensure(Evaluation))
    candidate, reason = select_flavor(comparison.models, registry.flavor)
    champion = find_champion(registry.name, comparison)
    baseline = champion.baseline_for(candidate) if champion else None
    gate.enforce(registry.gate, candidate, reason, comparison.models, baseline)
    table = mlflow.artifacts.load_text(f"runs:/{comparison.run_id}/comparison.md")
    tags = version_tags.build_tags(step, comparison, candidate)
    version = versions.register_version(
        registry.name, registry.alias, candidate.model_uri, table, tags
    )
    champion_version = champion.version if champion else None
    if registry.promote and (champion is None or champion.is_outranked_by(candidate)):
        versions.set_alias(registry.name, CHAMPION, version)
        champion_version = version
    if champion:
        champion.warn_if_not_compared(candidate, version, registry)
    if candidate is comparison.compared and comparison.is_in_doubt:
        messages.warning(
            f"{candidate.flavor} passed the gate, but the comparison does not say that it is good "
            "enough to serve: see its first line, or set a gate that requires it (docs/registry.md)"
        )
    result = ModelVersion(
        name=registry.name,
        version=version,
        alias=registry.alias,
        flavor=candidate.flavor,
        reason=reason,
        champion=champion_version,
        evaluation=comparison.run_id,
    )
    if not step.is_nested:
        messages.info(result.summary)
    return result


if __name__ == "__main__":
    run_step("register", register)
