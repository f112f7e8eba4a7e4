"""Built-in metrics that are selected by name: `evaluation.metrics=[json_valid]`.

Each is a function `(answer, expected)`, like a user's metric; its docstring is its meaning in the
comparison.
"""

import json
from typing import NoReturn


def json_valid(answer: str, expected: str) -> bool:
    """share of answers that are valid JSON (RFC 8259), surrounding white space allowed"""
    try:
        json.loads(answer, parse_constant=_reject_constant)
    except (ValueError, RecursionError):
        return False
    return True


def _reject_constant(constant: str) -> NoReturn:
    """Reject NaN and Infinity, which Python's parser accepts but JSON does not have."""
    raise ValueError(f"{constant} is not JSON")


BUILT_IN = {function.__name__: function for function in (json_valid,)}
"""The functions by name."""
