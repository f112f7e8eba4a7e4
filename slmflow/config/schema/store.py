"""What to do with the store: `store.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from slmflow.config.schema.fields import Kind, config_key


class Action(Enum):
    """What the step `store` does."""

    list = "list"
    prune = "prune"
    verify = "verify"


@dataclass
class Store:
    """List, verify or prune the folder of large files, `SLMFLOW_HOME`."""

    action: Action = config_key(Kind.value, "what to do")
    model: str | None = config_key(Kind.text, "only entries and journals of this model.name", None)
    older_than_days: float | None = config_key(
        Kind.value, "prune what was not used for so many days", None
    )
    max_size_mb: float | None = config_key(
        Kind.value, "prune what was not used for longest, until the store is no larger", None
    )
    dry_run: bool = config_key(Kind.value, "only show what prune would remove", True)

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        for key in ("older_than_days", "max_size_mb"):
            value = getattr(self, key)
            if value is not None and not 0 <= value < float("inf"):
                yield f"store.{key}={value}: give a number of at least 0"
        limits = (self.model, self.older_than_days, self.max_size_mb)
        if self.action is Action.prune and all(limit is None for limit in limits):
            yield (
                "store.action=prune: say what may go, with store.older_than_days=30, "
                "store.max_size_mb=50000 or store.model=NAME"
            )
