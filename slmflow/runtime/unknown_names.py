"""Messages for a name that does not exist: of a field of a request, of a key, of a task."""

import difflib
from collections.abc import Sequence

CODE = "unknown_parameter"
"""OpenAI's code of the error for a field that a request cannot have."""

# How alike two names are at least, from 0 to 1: `beam` and `stream` are not.
_ALIKE = 0.65


def describe(name: str, valid: Sequence[str]) -> str:
    """Return what is wrong with a field, with the closest of the valid ones, and all of them."""
    suggestion = did_you_mean(closest(name, valid))
    return f"{name} is not an option.{suggestion} Use {', '.join(valid)}"


def closest(name: str, valid: Sequence[str], most: int = 1) -> list[str]:
    """Return the valid names that are most like a name, none if none is like it."""
    return difflib.get_close_matches(name, valid, most, _ALIKE)


def did_you_mean(names: Sequence[str]) -> str:
    """Return the question that suggests names, empty without any."""
    return f" Did you mean {' or '.join(names)}?" if names else ""
