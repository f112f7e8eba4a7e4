"""Choose which aliases a new version takes.

`ALIAS-TARGET` points to the newest version of each target. `ALIAS` itself stays with the target
that had it first, so that runs for several targets do not move it back and forth. Neither moves to
a version that was measured on fewer rows.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion

from slmflow.console import messages
from slmflow.pipeline import registered_models
from slmflow.pipeline.registered_models import TAG_PREFIX, alias_of_target, target_in_alias

_SEVERAL = "from mlflow import MlflowClient; client = MlflowClient(); "


@dataclass(frozen=True)
class KeptAlias:
    """An alias that stays with its version, and why; is_usual: because of its target."""

    version: str
    reason: str
    is_usual: bool = False


@dataclass(frozen=True)
class AliasChoice:
    """What a new version does to the aliases of its model.

    taken: aliases that move to it; kept: those that stay.
    """

    taken: tuple[str, ...]
    kept: Mapping[str, KeptAlias]

    def versions(self, version: str) -> dict[str, str]:
        """Return the version under each alias, once the new version has taken its own."""
        return dict.fromkeys(self.taken, version) | {
            each: kept.version for each, kept in self.kept.items()
        }

    def report(self, name: str, version: str) -> None:
        """Name the aliases that stay; for fewer rows in a warning, with the command to move them.

        With several targets under one name, it is usual that the alias without target stays.
        """
        fewer = {alias: kept for alias, kept in self.kept.items() if not kept.is_usual}
        if usual := {alias: kept for alias, kept in self.kept.items() if kept.is_usual}:
            messages.info(_describe(usual))
        if fewer:
            moves = "; ".join(
                f"client.set_registered_model_alias('{name}', '{alias}', '{version}')"
                for alias in fewer
            )
            messages.warning(
                f"{_describe(fewer)}. To move it to version {version}: "
                f'python -c "{_SEVERAL}{moves}"'
            )


def choose(
    name: str, alias: str, target: str, rows: int, existing: ModelVersion | None
) -> AliasChoice:
    """Return which aliases a version for a target, measured on some rows, takes.

    existing: the version that the model is already. Raises UserError if the registry cannot
    be used.
    """
    own = alias_of_target(alias, target)
    current = registered_models.aliases(name)
    kept = {}
    for each in (alias, own):
        if each not in current or (existing and current[each] == str(existing.version)):
            continue
        holder = registered_models.version(name, current[each])
        targets = _targets(alias, holder, current)
        measured = measured_rows(holder.tags)
        if each == alias and targets and target_in_alias(target) not in targets:
            reason = f"which is for {' and '.join(sorted(targets))}"
            kept[each] = KeptAlias(current[each], reason, is_usual=True)
        elif measured > rows:
            reason = f"which was measured on {measured} rows, this one on {rows}"
            kept[each] = KeptAlias(current[each], reason)
    return AliasChoice(tuple(each for each in (alias, own) if each not in kept), kept)


def _describe(kept: Mapping[str, KeptAlias]) -> str:
    return "; ".join(
        f"{alias} stays with version {each.version}, {each.reason}" for alias, each in kept.items()
    )


def measured_rows(tags: Mapping[str, str]) -> int:
    """Return on how many rows a version was measured; 0 if its tags do not say."""
    rows = tags.get(f"{TAG_PREFIX}n", "")
    return int(float(rows)) if re.fullmatch(r"\d+(\.0)?", rows) else 0


def _targets(alias: str, version: ModelVersion, current: Mapping[str, str]) -> set[str]:
    """Return the targets that a version is for, by the aliases of targets that it has."""
    start = alias_of_target(alias, "")
    having = (each for each, other in current.items() if other == str(version.version))
    targets = {each.removeprefix(start) for each in having if each.startswith(start)}
    tagged = version.tags.get(f"{TAG_PREFIX}target")
    return targets or ({target_in_alias(tagged)} if tagged else set())
