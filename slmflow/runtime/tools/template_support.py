"""What a chat template knows of tools: found by rendering short conversations with it.

Templates differ in where they take declared tools, and in how they take the calls and results of
earlier turns. Calls that a template leaves out are written into the text of the message, in the
model's own format.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NoReturn

from tokenizers import Tokenizer

from ..errors import reject
from .call_style import CALL_STYLES, DECLARATIONS, Arranged, CallStyle, Message
from .declarations import Declaration
from .formats import ToolFormat, recognize
from .messages import parse_arguments

Render = Callable[[Sequence[Message], Mapping[str, Any]], str]
"""Return the text of messages, with further variables of the template; raise if it rejects them."""

# Names and values that no template has of its own, and an id that all of them accept.
_TOOL, _PARAMETER, _KEY, _RESULT = "probe_tool", "probe_parameter", "probe_key", "probe_result"
_VALUE, _SECOND_VALUE = "probe_value", "probe_second"
_ID = "probeid01"
_PARAMETERS = {"type": "object", "properties": {_PARAMETER: {"type": "string", "description": "A"}}}
_DECLARED: Sequence[Declaration] = [
    {
        "type": "function",
        "function": {"name": _TOOL, "description": "A tool", "parameters": _PARAMETERS},
    }
]
_SYSTEM, _USER = {"role": "system", "content": "A"}, {"role": "user", "content": "B"}

# A role of its own for results, where the vocabulary has it and the template names no roles.
_RESPONSE_ROLE = "tool_response"


class ToolTemplate:
    """The tools of one chat template."""

    def __init__(self, render: Render, source: str, tokenizer: Tokenizer) -> None:
        """Use a template, of which `source` is the Jinja text. Nothing is rendered yet."""
        self._render, self._source, self._tokenizer = render, source, tokenizer

    @cached_property
    def format(self) -> ToolFormat | None:
        """How the model calls tools; None if its template knows none, or the format is unknown."""
        return self._declare and recognize(self._source, self._tokenizer)

    @cached_property
    def allows_parallel(self) -> bool:
        """Whether several calls of one turn can be rendered in a later prompt."""
        if self._style is None:
            return True
        text = self._render_turn(self._style, _call(_VALUE), _call(_SECOND_VALUE))
        return _VALUE in text and _SECOND_VALUE in text

    def arrange(self, messages: Sequence[Message], tools: Sequence[Declaration]) -> Arranged:
        """Return messages and variables that render as a conversation with tools, if any.

        Raises MlflowException (HTTP 400) for a tool or a message that the template leaves out.
        """
        arranged = [self._arrange(message) for message in messages]
        if not tools:
            return arranged, {}
        if self._declare is None:
            reject(
                "this model's chat template knows no tools: leave them out, or convert the model "
                "with a template that has them (model.template=FILE)",
                param="tools",
            )
        return self._declare(arranged, tools)

    @cached_property
    def _declare(self) -> Callable[[Sequence[Message], Sequence[Declaration]], Arranged] | None:
        """How the template takes declared tools; None if it leaves them out."""
        if "tools" not in self._source:
            return None
        for declare in DECLARATIONS:
            for messages in ([_USER], [_SYSTEM, _USER]):
                text = self._try(declare(messages, _DECLARED))
                if _TOOL in text and _PARAMETER in text:
                    return declare
        return None

    @cached_property
    def _style(self) -> CallStyle | None:
        """How the template takes calls; None if it leaves them out."""
        if "tool_calls" not in self._source:
            return None
        for style in CALL_STYLES:
            text = self._render_turn(style, _call(_VALUE))
            # Quotes of Python, or of JSON within JSON, show that it expects the other kind.
            is_misquoted = f"'{_KEY}'" in text or f'\\"{_KEY}' in text
            if _VALUE in text and not is_misquoted:
                return style
        return None

    @cached_property
    def _result_role(self) -> str | None:
        """The role of results in the template; None if it leaves them out."""
        roles = ["tool"]
        if _RESPONSE_ROLE not in self._source and self._has_role(_RESPONSE_ROLE):
            roles.insert(0, _RESPONSE_ROLE)
        for role in roles:
            result = {"role": role, "name": _TOOL, "content": _RESULT, "tool_call_id": _ID}
            if _RESULT in self._render_turn(self._style, _call(_VALUE), result=result):
                return role
        return None

    def _arrange(self, message: Message) -> Message:
        if calls := message.get("tool_calls"):
            return self._arrange_calls(message, calls)
        if message["role"] != "tool":
            return message
        if self._result_role is None:
            _reject_message("messages of role tool")
        return {**message, "role": self._result_role}

    def _arrange_calls(self, message: Message, calls: Sequence[Mapping[str, Any]]) -> Message:
        content = message.get("content")
        if self._style:
            return {**message, **self._style.fields(calls, content)}
        if self.format is None:
            _reject_message("tool_calls")
        written = self.format.write([_name_and_arguments(call) for call in calls])
        rest = {name: value for name, value in message.items() if name != "tool_calls"}
        return {**rest, "content": "\n".join(text for text in (content, written) if text)}

    def _has_role(self, role: str) -> bool:
        return self._tokenizer.token_to_id(f"<|{role}|>") is not None

    def _render_turn(
        self, style: CallStyle | None, *calls: Mapping[str, Any], result: Message | None = None
    ) -> str:
        """Return the text of a turn with calls, or without a style one of text, and a result."""
        fields = style.fields(calls, None) if style else {"content": "C"}
        messages = [_USER, {"role": "assistant", **fields}, *([result] if result else [])]
        return self._try(self._declare(messages, _DECLARED) if self._declare else (messages, {}))

    def _try(self, arranged: Arranged) -> str:
        """Return the text of messages, empty if the template rejects them."""
        try:
            return self._render(*arranged)
        except Exception:  # a template may fail in any way
            return ""


def _call(value: str) -> dict[str, Any]:
    arguments = json.dumps({_KEY: value})
    return {"id": _ID, "type": "function", "function": {"name": _TOOL, "arguments": arguments}}


def _name_and_arguments(call: Mapping[str, Any]) -> tuple[str, str]:
    return call["function"]["name"], json.dumps(parse_arguments(call), ensure_ascii=False)


def _reject_message(what: str) -> NoReturn:
    reject(
        f"this model's chat template knows no {what}: leave them out, or convert the model with a "
        "template that has them (model.template=FILE)",
        param="messages",
    )
