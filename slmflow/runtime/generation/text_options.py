"""The options of a text completion that a chat does not have.

`echo` repeats the prompt before its completion; with it `max_tokens` may be 0. `logprobs` is the
number of alternatives that come with the log-probability of each token, in the prompt too.
"""

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from ..errors import reject


class Echo(Enum):
    """Whether a response repeats its prompt: not, before the completion, or alone."""

    none = auto()
    before_completion = auto()
    alone = auto()


def parse(options: Mapping[str, Any]) -> tuple[dict[str, Any], Echo]:
    """Return a completion's options as a chat has them, and its echo.

    Raises MlflowException (HTTP 400) for an invalid `echo`.
    """
    others = dict(options)
    if others.get("logprobs") is False:  # of a chat, where it asks for none
        del others["logprobs"]
    echo = others.pop("echo", False)
    if not isinstance(echo, bool):
        reject(f"echo={echo!r}: must be true or false", param="echo")
    if not echo:
        return others, Echo.none
    max_tokens = others.get("max_tokens")
    if type(max_tokens) is not int or max_tokens:
        return others, Echo.before_completion
    del others["max_tokens"]
    return others, Echo.alone
