"""Metrics that are asked for by name: `evaluation.metrics=[json_valid]`.

Each is a function `(answer, expected)` as a user's own is; its docstring says what the figure is.
"""

import json
from typing import NoReturn


def json_valid(answer: str, expected: str) -> bool:
    """answers that are JSON by RFC 8259, white space around it aside"""
    try:
        json.loads(answer, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def _refuse(constant: str) -> NoReturn:
    """Refuse NaN and Infinity, which Python's reader takes and JSON has not."""
    raise ValueError(f"{constant} is not JSON")


BUILT_IN = {function.__name__: function for function in (json_valid,)}
"""The functions by name."""
