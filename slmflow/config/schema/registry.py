"""Where the better flavor is registered, and its gate: `registry.*`."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING

# Alias of the version that others are measured against.
CHAMPION = "champion"
_RESERVED_ALIAS = re.compile(r"v\d+|latest", re.IGNORECASE)
_REGISTERED_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)


class Flavor(Enum):
    """A flavor that can be registered."""

    transformers = "transformers"
    genai = "genai"


@dataclass
class Threshold:
    """What a figure of the comparison must be, in its own unit; None asks nothing.

    min, max: of the flavor that is registered. max_drop: how much worse than the reference flavor,
    and than the champion, it may be.
    """

    min: float | None = None
    max: float | None = None
    max_drop: float | None = None

    def problems(self, key: str) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        limits = {"min": self.min, "max": self.max, "max_drop": self.max_drop}
        for name, value in limits.items():
            if value is not None and not math.isfinite(value):
                yield f"{key}.{name}={value}: must be a finite number, or null for no threshold"
        if self.min is not None and self.max is not None and self.min > self.max:
            yield f"{key}.min={self.min}: is above {key}.max={self.max}, so no figure can pass"
        if self.max_drop is not None and self.max_drop < 0:
            yield f"{key}.max_drop={self.max_drop}: must be 0 or more"


@dataclass
class Registry:
    """Where the better flavor is registered, and what its figures must be for that.

    alias: of each new version; flavor: which one, None for the better; promote: whether one that is
    better than the champion becomes the champion; gate: thresholds by column of the comparison,
    whose names `register` checks.
    """

    name: str = MISSING
    alias: str = MISSING
    flavor: Flavor | None = None
    promote: bool = False
    gate: dict[str, Threshold] = field(default_factory=dict)

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        for key, value in (("name", self.name), ("alias", self.alias)):
            if not _REGISTERED_NAME.fullmatch(value):
                yield (
                    f"registry.{key}={value!r}: use letters, digits, '.', '_' and '-', "
                    "with a letter or digit first"
                )
        if _RESERVED_ALIAS.fullmatch(self.alias):
            yield f"registry.alias={self.alias!r}: MLflow reserves v1, v2, ... and latest"
        if self.alias == CHAMPION:
            yield (
                f"registry.alias={self.alias}: that alias is for versions that are better than the "
                "one before; choose another, such as candidate, and set registry.promote=true"
            )
        for metric, threshold in self.gate.items():
            yield from threshold.problems(f"registry.gate.{metric}")
