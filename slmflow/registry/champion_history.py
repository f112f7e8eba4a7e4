"""Move the alias `champion`, and remember who had it, in a tag of the registered model.

`slmflow_champions` lists the versions in the order in which they became the champion, the current
one last. A champion that was set by hand joins the list at the next move.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.entities.model_registry import RegisteredModel
from mlflow.exceptions import MlflowException

from slmflow.config.schema.registry import CHAMPION
from slmflow.errors import UserError
from slmflow.pipeline import registered_models
from slmflow.pipeline.registered_models import TAG_PREFIX, registry_errors
from slmflow.registry import versions

CHAMPIONS = f"{TAG_PREFIX}champions"

_MOST_REMEMBERED = 50


@dataclass(frozen=True)
class RollBack:
    """The version that was the champion, the one that is it again, and later ones left out.

    unusable: versions that were the champion in between, and no longer exist or cannot be read.
    """

    before: str
    after: str
    unusable: tuple[str, ...]


def make_champion(name: str, version: str) -> str | None:
    """Move the alias `champion` to a version; return the version that had it.

    Raises UserError if the registry cannot be used.
    """
    current, history = _read(name)
    if current != version:
        _move(name, [*history, version])
    return current


def roll_back(name: str) -> RollBack:
    """Move the alias `champion` back to the newest earlier champion that can still be used.

    Raises UserError if there is none, or if the registry cannot be used.
    """
    current, history = _read(name)
    if current is None:
        raise UserError(
            f"models:/{name}@{CHAMPION} does not exist: there is nothing to roll back. To promote "
            f"a version: -e register -P registry.name={name} -P registry.stage={CHAMPION} "
            "-P registry.version=VERSION"
        )
    earlier = [version for version in history if version != current]
    unusable: list[str] = []
    while earlier:
        if versions.is_usable(name, version := earlier[-1]):
            _move(name, earlier)
            return RollBack(current, version, tuple(unusable))
        unusable.append(earlier.pop())
    gone = f" (version {', '.join(unusable)} can no longer be used)" if unusable else ""
    raise UserError(
        f"models:/{name}@{CHAMPION} is version {current}, and no earlier champion is known{gone}: "
        "there is nothing to roll back to. To choose a version, promote it with "
        "-e register -P registry.stage=champion -P registry.version=NUMBER"
    )


def _read(name: str) -> tuple[str | None, list[str]]:
    """Return the champion, and all champions up to it, which is the last."""
    current = registered_models.aliases(name).get(CHAMPION)
    if current is None:
        return None, []
    with registry_errors():
        return current, _up_to(_parse(MlflowClient().get_registered_model(name)), current)


def _parse(registered: RegisteredModel) -> list[str]:
    return re.findall(r"\d+", registered.tags.get(CHAMPIONS) or "", re.ASCII)


def _up_to(history: list[str], current: str) -> list[str]:
    """Return the history up to the current champion, wherever a person moved the alias."""
    if current not in history:
        return [*history, current]
    return history[: len(history) - history[::-1].index(current)]


def _move(name: str, history: Sequence[str]) -> None:
    with registry_errors():
        client, kept = MlflowClient(), history[-_MOST_REMEMBERED:]
        try:
            client.set_registered_model_alias(name, CHAMPION, kept[-1])
        except MlflowException as error:
            if error.error_code in registered_models.MISSING:
                raise UserError(f"models:/{name}/{kept[-1]} does not exist") from error
            raise
        client.set_registered_model_tag(name, CHAMPIONS, ", ".join(kept))
