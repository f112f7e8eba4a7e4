"""Announce a change of the registry by a webhook and by a command.

The change is done by then, so a failure is a warning and a tag of the run.
"""

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import mlflow

from slmflow.config.schema.registry import Registry
from slmflow.console import messages
from slmflow.console.redaction import redact
from slmflow.pipeline import registered_models
from slmflow.registry import hook_command, webhook

NOTIFIED = "slmflow.notified"
"""Tag of a run: what was announced, and how."""

ENTITY = "slmflow.model_version"


class Event(Enum):
    """What happened to a version."""

    registered = "registered"
    promoted = "promoted"
    rolled_back = "rolled_back"


@dataclass(frozen=True)
class Change:
    """A change of the registry.

    version: the one that was registered, or that is the champion now; summary: one sentence;
    is_new: whether it was registered for the first time, of `registered` only; previous_champion:
    the version that was the champion before.
    """

    event: Event
    name: str
    version: str
    summary: str
    is_new: bool | None = None
    previous_champion: str | None = None
    approved_by: str | None = None


def check(registry: Registry) -> None:
    """Raise BadArguments, before any work, if the webhook has no address or the command is none."""
    if registry.webhook is not None:
        webhook.resolve(registry.webhook)
    if registry.command:
        hook_command.check(registry.command)


def announce(change: Change, registry: Registry, run_id: str) -> None:
    """Send a change to `registry.webhook` and `registry.command`; warn if that fails."""
    senders: dict[str, Callable[[str, str], None]] = {}
    if (url := registry.webhook) is not None:
        senders["webhook"] = lambda id_, body: webhook.send(url, id_, body)
    if registry.command:
        environment = _variables(change, run_id)
        senders["command"] = lambda _, body: hook_command.run(registry.command, body, environment)
    if not senders:
        return
    delivery, body = str(uuid.uuid4()), json.dumps(_message(change, run_id))
    outcomes = []
    for kind, send in senders.items():
        try:
            send(delivery, body)
        except (webhook.NotDelivered, hook_command.CommandFailed) as failure:
            messages.warning(
                f"registry.{kind}: {failure}. The change of the registry is done: "
                f"{change.summary}. Do not run the step again for this"
            )
            outcomes.append(redact(f"{kind} failed for {change.event.value}: {failure}"))
        else:
            outcomes.append(f"{kind} succeeded for {change.event.value}")
    _tag(outcomes, run_id)


def _message(change: Change, run_id: str) -> dict[str, Any]:
    """Return the JSON object: the envelope of MLflow's own webhooks, and `text` for chat tools."""
    data = asdict(change) | {"event": change.event.value, "run_id": run_id}
    aliases = registered_models.aliases(change.name).items()
    data["model_uri"] = _model_uri(change)
    data["aliases"] = sorted(alias for alias, version in aliases if version == change.version)
    return {
        "text": change.summary,
        "entity": ENTITY,
        "action": change.event.value,
        "timestamp": datetime.now(UTC).isoformat(),
        "data": data,
    }


def _variables(change: Change, run_id: str) -> dict[str, str]:
    """Return what a command finds in its environment."""
    values = {
        "EVENT": change.event.value,
        "MODEL_NAME": change.name,
        "MODEL_VERSION": change.version,
        "MODEL_URI": _model_uri(change),
        "PREVIOUS_CHAMPION": change.previous_champion or "",
        "APPROVED_BY": change.approved_by or "",
        "RUN_ID": run_id,
    }
    return {f"SLMFLOW_{name}": value for name, value in values.items()}


def _model_uri(change: Change) -> str:
    return f"models:/{change.name}/{change.version}"


def _tag(outcomes: list[str], run_id: str) -> None:
    client = mlflow.MlflowClient()
    before = client.get_run(run_id).data.tags.get(NOTIFIED)
    text = "; ".join([*([before] if before else []), *outcomes])
    client.set_tag(run_id, NOTIFIED, text[:5000])
