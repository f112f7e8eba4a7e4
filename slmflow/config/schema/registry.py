"""The registered model and the gate that a new version must pass: `registry.*`."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from urllib.parse import SplitResult, urlsplit

from slmflow.config.schema.fields import Kind, config_key

CHAMPION = "champion"
"""Alias of the version that new ones are compared with."""

_VARIABLE = re.compile(r"env:([A-Za-z_][A-Za-z0-9_]*)", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,9}")
_RESERVED_ALIAS = re.compile(r"v\d+|latest", re.IGNORECASE)
_REGISTERED_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


class Flavor(Enum):
    """A flavor that can be registered."""

    transformers = "transformers"
    genai = "genai"


class Stage(Enum):
    """What `register` makes of a model: a new version, or of a registered version the champion."""

    candidate = "candidate"
    champion = "champion"


def webhook_variable(webhook: str) -> str | None:
    """Return the environment variable with the address, for `env:NAME`; None for an address."""
    named = _VARIABLE.fullmatch(webhook)
    return named and named[1]


def http_address(url: str) -> SplitResult | None:
    """Return the parts of an http or https URL, None if it is none."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return None
    is_plain = not re.search(r"[\s\x00-\x1f\x7f]", url)
    return parts if parts.scheme in ("http", "https") and host and is_plain else None


@dataclass
class Threshold:
    """Limits of one metric of the candidate, in the metric's unit; None sets no limit."""

    min: float | None = config_key(Kind.value, "lowest value that passes", None)
    max: float | None = config_key(Kind.value, "highest value that passes", None)
    max_drop: float | None = config_key(
        Kind.value, "how much worse than the reference and than the champion it may be", None
    )

    def problems(self, key: str) -> Iterator[str]:
        """Yield one message for each invalid value."""
        limits = {"min": self.min, "max": self.max, "max_drop": self.max_drop}
        for name, value in limits.items():
            if value is not None and not math.isfinite(value):
                yield f"{key}.{name}={value}: must be a finite number, or null for no threshold"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield f"{key}.min={self.min}: is above {key}.max={self.max}, so no value can pass"
        if self.max_drop is not None and self.max_drop < 0:
            yield f"{key}.max_drop={self.max_drop}: must be 0 or more"


@dataclass
class Registry:
    """Where the better flavor is registered, and the gate it must pass.

    The step `register` checks that the names in `gate` are columns of the comparison.
    """

    name: str = config_key(Kind.text, "name of the registered model")
    alias: str = config_key(Kind.text, "alias of each new version")
    flavor: Flavor | None = config_key(Kind.value, "flavor to register; null is the better", None)
    promote: bool = config_key(
        Kind.value, "whether a version that beats the champion becomes the champion", False
    )
    stage: Stage = config_key(
        Kind.value,
        "candidate registers a version; champion promotes one that is registered and approved",
        Stage.candidate,
    )
    version: str | None = config_key(
        Kind.text, "version to promote; null is that under the alias", None
    )
    webhook: str | None = config_key(
        Kind.text,
        "URL that gets each change of the registry by POST, or env:NAME, a variable with the URL",
        None,
    )
    command: list[str] = config_key(
        Kind.list, "program to run after each change of the registry, with its arguments", list
    )
    gate: dict[str, Threshold] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        for key, value in (("name", self.name), ("alias", self.alias)):
            if not _REGISTERED_NAME.fullmatch(value):
                yield (
                    f"registry.{key}={value!r}: use letters, digits, '.', '_' and '-', "
                    "with a letter or digit first"
                )
        if "." in self.alias:
            yield f"registry.alias={self.alias!r}: MLflow allows no '.' in an alias"
        if _RESERVED_ALIAS.fullmatch(self.alias):
            yield f"registry.alias={self.alias!r}: MLflow reserves v1, v2, ... and latest"
        if self.alias == CHAMPION:
            yield (
                f"registry.alias={self.alias}: that alias is for versions that beat the previous "
                "champion; choose another, such as candidate, and set registry.promote=true"
            )
        yield from self._stage_problems()
        if self.webhook is not None:
            yield from _webhook_problems(self.webhook)
        if self.command and not self.command[0].strip():
            yield "registry.command: the first item is empty: give a program"
        if any("\0" in each for each in self.command):
            yield "registry.command: an item contains a null character: leave it out"
        for metric, threshold in self.gate.items():
            yield from threshold.problems(f"registry.gate.{metric}")

    def _stage_problems(self) -> Iterator[str]:
        if self.version is None:
            return
        if not _VERSION.fullmatch(self.version):
            yield f"registry.version={self.version!r}: give the number of a version, such as 3"
        if self.stage is not Stage.champion:
            yield (
                f"registry.version={self.version!r} is the version to promote: set "
                "registry.stage=champion, too, or leave it out"
            )


def _webhook_problems(webhook: str) -> Iterator[str]:
    """Yield one message if there is no address; it does not show one that may have a password."""
    if webhook_variable(webhook) is not None:
        return
    own = "put the URL into an environment variable, and give registry.webhook=env:NAME"
    if (address := http_address(webhook)) is None:
        yield f"registry.webhook is not an http or https URL: give https://HOST/PATH, or {own}"
    elif "@" in address.netloc:
        yield f"registry.webhook has a user or password, which MLflow would record: {own}"
