"""How chat templates take declared tools and tool calls: the variants that exist."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .declarations import Declaration
from .messages import parse_arguments

Message = Mapping[str, Any]

Arranged = tuple[Sequence[Message], Mapping[str, Any]]
"""Messages as a template takes them, and the variables for it."""

# The system message in Phi-4-mini's own example, for a request without one.
_SYSTEM_WITH_TOOLS = {
    "role": "system",
    "content": "You are a helpful assistant with some tools.",
}


@dataclass(frozen=True)
class CallStyle:
    """How a template takes the calls of an assistant's turn.

    empty: the content of a turn without text; takes_text: whether arguments are JSON text, else an
    object.
    """

    empty: str | None
    takes_text: bool

    def fields(self, calls: Sequence[Mapping[str, Any]], content: str | None) -> dict[str, Any]:
        """Return the fields of a message with validated calls."""
        return {"content": content or self.empty, "tool_calls": [self._call(c) for c in calls]}

    def _call(self, call: Mapping[str, Any]) -> dict[str, Any]:
        if self.takes_text:
            return dict(call)
        function = {**call["function"], "arguments": parse_arguments(call)}
        return {**call, "function": function}


CALL_STYLES = tuple(
    CallStyle(empty, takes_text) for takes_text in (False, True) for empty in ("", None)
)
"""The styles in the order in which they are tried: that of transformers' own examples first."""


def as_variable(messages: Sequence[Message], tools: Sequence[Declaration]) -> Arranged:
    """Declare tools in the variable `tools`, as almost all templates take them."""
    return messages, {"tools": tools}


def as_xml_tools(messages: Sequence[Message], tools: Sequence[Declaration]) -> Arranged:
    """Declare tools in SmolLM3's variable for them."""
    return messages, {"xml_tools": tools}


def in_system_message(messages: Sequence[Message], tools: Sequence[Declaration]) -> Arranged:
    """Declare tools as JSON text in the system message, as Phi-4-mini takes them."""
    functions = json.dumps([tool["function"] for tool in tools], ensure_ascii=False)
    if messages[0]["role"] != "system":
        messages = [_SYSTEM_WITH_TOOLS, *messages]
    return [{**messages[0], "tools": functions}, *messages[1:]], {}


DECLARATIONS = (as_variable, as_xml_tools, in_system_message)
"""The ways to declare tools in the order in which they are tried."""
