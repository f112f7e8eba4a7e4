"""Promote an approved version to the champion, and take a promotion back.

A version becomes the champion if it passed the gate when it was registered, and if a person
approved it with the tag `slmflow_approved_by`.
"""

from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from slmflow.config.schema.config import Config
from slmflow.config.schema.registry import CHAMPION
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import registered_models
from slmflow.pipeline.registered_models import registry_errors
from slmflow.pipeline.step import Step
from slmflow.registry import announcements, champion_history, preflight, versions
from slmflow.registry.announcements import Change, Event
from slmflow.registry.stage_tags import APPROVED_BY, GATE, ROLLED_BACK, RUN_PROMOTE

_MAX_NAME = 200  # of a person, in messages


def promote(step: Step) -> None:
    """Make the candidate, or `registry.version`, the champion, and announce it.

    Raises UserError unless the version passed the gate and is approved.
    """
    registry = step.config.registry
    announcements.check(registry)
    preflight.check_rights(registry.name)
    version = _selected(step.config)
    _require_gate(version)
    approved_by = _approval(version)
    name, number = registry.name, str(version.version)
    before = champion_history.make_champion(name, number)
    if before == number:
        messages.info(f"models:/{name}/{number} is the {CHAMPION} already")
        return
    note_promotion(name, number, step.run.info.run_id)
    replaced = f" in place of version {before}" if before else ""
    summary = f"models:/{name}/{number} is the {CHAMPION}{replaced}, approved by {approved_by}"
    messages.info(summary)
    change = Change(
        Event.promoted, name, number, summary, previous_champion=before, approved_by=approved_by
    )
    announcements.announce(change, registry, step.run.info.run_id)


def roll_back(step: Step) -> None:
    """Make the previous champion the champion again, and announce it.

    The version that was the champion loses its approval. Raises UserError if there is no earlier
    champion.
    """
    registry = step.config.registry
    announcements.check(registry)
    preflight.check_rights(registry.name)
    done = champion_history.roll_back(registry.name)
    with registry_errors():
        client = MlflowClient()
        if APPROVED_BY in registered_models.version(registry.name, done.before).tags:
            client.delete_model_version_tag(registry.name, done.before, APPROVED_BY)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        client.set_model_version_tag(registry.name, done.before, ROLLED_BACK, now)
    if done.unusable:
        messages.warning(f"version {', '.join(done.unusable)} can no longer be used: left out")
    summary = (
        f"models:/{registry.name}/{done.after} is the {CHAMPION} again, in place of version "
        f"{done.before}, which is no longer approved"
    )
    messages.info(summary)
    change = Change(
        Event.rolled_back, registry.name, done.after, summary, previous_champion=done.before
    )
    announcements.announce(change, registry, step.run.info.run_id)


def note_promotion(name: str, version: str, run_id: str) -> None:
    """Tag a version that became the champion with the run that promoted it."""
    with registry_errors():
        client = MlflowClient()
        client.set_model_version_tag(name, version, RUN_PROMOTE, run_id)
        if ROLLED_BACK in registered_models.version(name, version).tags:
            client.delete_model_version_tag(name, version, ROLLED_BACK)


def was_rolled_back(version: ModelVersion | None) -> bool:
    """Return whether a version was the champion and was replaced by an earlier one; say so."""
    if version is None or ROLLED_BACK not in version.tags:
        return False
    messages.warning(
        f"models:/{version.name}/{version.version} was rolled back and is not promoted by "
        "registry.promote: approve it, and promote it with registry.stage=champion"
    )
    return True


def _selected(config: Config) -> ModelVersion:
    """Return the version to promote. Raises UserError if it does not exist or cannot be used."""
    registry = config.registry
    current = registered_models.aliases(registry.name)
    own = registered_models.alias_of_target(registry.alias, config.target.name)
    number = registry.version or current.get(own) or current.get(registry.alias)
    if number is None:
        raise UserError(
            f"models:/{registry.name} has no version under {registry.alias} to promote: register "
            "one first (-e register), or give registry.version=NUMBER"
        )
    if not versions.is_usable(registry.name, number):
        raise UserError(
            f"models:/{registry.name}/{number} does not exist or its files cannot be read: give "
            "another registry.version"
        )
    return registered_models.version(registry.name, number)


def _require_gate(version: ModelVersion) -> None:
    if GATE not in version.tags:
        raise UserError(
            f"models:/{version.name}/{version.version} has no tag {GATE}, so it is not known to "
            "have passed a gate: run -e register with its model and target, which takes seconds"
        )


def _approval(version: ModelVersion) -> str:
    """Return who approved a version. Raises UserError, with the command that approves it."""
    words = " ".join((version.tags.get(APPROVED_BY) or "").split())
    person = "".join(each for each in words if each.isprintable())[:_MAX_NAME]
    if person:
        return person
    name, number = version.name, version.version
    raise UserError(
        f"models:/{name}/{number} is not approved. It passed the gate ({version.tags[GATE]}). To "
        f"approve it, set its tag {APPROVED_BY} to your name, on its page in MLflow or with: "
        'python -c "from mlflow import MlflowClient; MlflowClient().set_model_version_tag('
        f"'{name}', '{number}', '{APPROVED_BY}', 'YOUR NAME')\""
    )
