"""Fields of messages that clients send and that ask for nothing."""

from collections.abc import Mapping
from typing import Any

# What clients or servers keep about a message; the text does not depend on it.
_ANNOTATIONS = ("annotations", "cache_control", "provider_specific_fields")

# Of further fields, the values that ask for nothing, beside null and what is empty.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "type": ("text", "message"),
    "name": ("",),
    "refusal": ("",),
    "prefix": (False,),
    "partial": (False,),
}


def drop_neutral_fields(message: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a message, or a part of its content, without the fields that ask for nothing."""
    return {
        name: value
        for name, value in message.items()
        if (name == "content" and value is not None) or not _is_neutral(name, value)
    }


def _is_neutral(name: Any, value: Any) -> bool:
    if value is None or value in ([], {}) or name in _ANNOTATIONS:
        return True
    return value in _NEUTRAL.get(name, ())
