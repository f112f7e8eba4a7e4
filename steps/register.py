"""Register the better flavor under the aliases of `registry.alias` if it passes the gate.

mlflow run . -e register --env-manager uv -P registry.name=my-model
python -m steps.register registry.gate.latency_ms_p95.max=200 registry.promote=true
python -m steps.register registry.stage=champion
"""

from dataclasses import replace

import mlflow
from mlflow.entities.model_registry import ModelVersion as Version

from slmflow.config.schema.registry import Stage
from slmflow.console import messages
from slmflow.datasets import traced_rows
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline import registered_models
from slmflow.pipeline.results import Evaluation, ModelVersion
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.registry import (
    aliases,
    announcements,
    champion_history,
    descriptions,
    gate,
    preflight,
    promotion,
    version_tags,
    versions,
)
from slmflow.registry.aliases import AliasChoice
from slmflow.registry.announcements import Change, Event
from slmflow.registry.champion import find_champion
from slmflow.registry.ranking import select_flavor
from slmflow.registry.stage_tags import GATE


def register(step: Step) -> ModelVersion | None:
    """Register a version; with registry.stage=champion, promote one that is registered."""
    if step.config.registry.stage is Stage.champion:
        promotion.promote(step)
        return None
    return register_candidate(step)


def register_candidate(step: Step) -> ModelVersion:
    """Evaluate, select the better flavor, enforce the gate, and register a version.

    A model that is already a version is not registered again.
    """
    registry, run_id = step.config.registry, step.run.info.run_id
    preflight.validate_config(step.config)
    preflight.check_rights(registry.name)
    comparison = Comparison.from_result(step.ensure(Evaluation))
    candidate, reason = select_flavor(comparison.models, registry.flavor)
    key_tag = version_tags.key_tag(step, candidate.flavor)
    existing = versions.find_version(registry.name, candidate.model_uri, key_tag)
    champion = find_champion(registry.name, comparison, candidate, existing)
    baseline = champion.baseline_for(candidate) if champion else None
    gate.enforce(registry.gate, candidate, reason, comparison.models, baseline)
    version, evaluation, choice = _register(step, comparison, candidate, existing)
    champion_version = champion.version if champion else None
    wins = registry.promote and (champion is None or champion.is_outranked_by(candidate))
    is_promoted = wins and not promotion.was_rolled_back(existing)
    if is_promoted:
        champion_history.make_champion(registry.name, version)
        promotion.note_promotion(registry.name, version, run_id)
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
        aliases=choice.versions(version),
        flavor=candidate.flavor,
        reason=reason,
        champion=champion_version,
        evaluation=evaluation,
    )
    if not step.is_nested:
        messages.info(result.summary)
    change = Change(Event.registered, registry.name, version, result.summary, existing is None)
    announcements.announce(change, registry, run_id)
    if is_promoted:
        before = champion.version if champion else None
        change = replace(change, event=Event.promoted, is_new=None, previous_champion=before)
        announcements.announce(change, registry, run_id)
    return result


def _register(
    step: Step, comparison: Comparison, candidate: ModelMetrics, existing: Version | None
) -> tuple[str, str, AliasChoice]:
    """Register the candidate, or update the version that it is already.

    Returns the version, the run id of the evaluation behind its metrics, and its aliases.
    """
    registry, target = step.config.registry, step.config.target.name
    choice = aliases.choose(registry.name, registry.alias, target, candidate.n, existing)
    evaluation = comparison.run_id
    if existing and aliases.measured_rows(existing.tags) > candidate.n:
        version = versions.keep_measurement(existing, choice.taken, candidate.n)
        evaluation = registered_models.evaluation_run(existing.tags) or evaluation
    else:
        report = mlflow.artifacts.load_text(f"runs:/{comparison.run_id}/comparison.md")
        description = descriptions.of_version(comparison, candidate, report)
        tags = version_tags.build_tags(step, comparison, candidate, existing)
        tags[GATE] = gate.describe(registry.gate)
        version = versions.register_version(
            registry.name, choice.taken, candidate.model_uri, description, tags, existing
        )
    descriptions.describe_model(step.config)
    choice.report(registry.name, version)
    return version, evaluation, choice


if __name__ == "__main__":
    run_step("register", register, traced_rows.load_config)
