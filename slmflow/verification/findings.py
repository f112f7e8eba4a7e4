"""The outcome of a check."""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Whether something is as recorded."""

    holds = "holds"
    differs = "differs"
    unchecked = "not checked"


@dataclass(frozen=True)
class Finding:
    """The outcome of a check; detail: what was found, or why nothing could be checked."""

    check: str
    state: State
    detail: str

    def to_json(self) -> dict[str, str]:
        """Return the fields as a JSON object."""
        return {"check": self.check, "state": self.state.value, "detail": self.detail}
