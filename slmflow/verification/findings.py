"""What came of a check."""

from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """Whether what was checked is as recorded."""

    holds = "holds"
    differs = "differs"
    unchecked = "not checked"


@dataclass(frozen=True)
class Finding:
    """The state of what was checked, and in words what was found, or why nothing could be."""

    check: str
    state: State
    told: str

    def to_json(self) -> dict[str, str]:
        """Return the fields as a JSON object."""
        return {"check": self.check, "state": self.state.value, "told": self.told}
