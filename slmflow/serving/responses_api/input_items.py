"""The input of a response as the messages of a chat."""

from collections.abc import Mapping
from typing import Any, NoReturn

from slmflow.serving.errors import RequestError

Message = dict[str, Any]

# Parts of a message's content, and of a tool's output, that are text.
_TEXT_PARTS = ("input_text", "output_text", "text")
_SYSTEM_ROLES = ("system", "developer")
_ROLES = (*_SYSTEM_ROLES, "user", "assistant")


def read_messages(value: Any, instructions: str | None) -> list[Message]:
    """Return the messages for `input` and `instructions`. Raises RequestError.

    Instructions and a system message that follows them are one system message, because many chat
    templates take only one.
    """
    conversation = _Conversation()
    if instructions:
        conversation.add_text("system", instructions)
    if isinstance(value, str):
        conversation.add_text("user", value)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            conversation.add_item(item, f"input[{index}]")
    else:
        _reject("input", value, "give text or a list of items")
    if not conversation.messages:
        _reject("input", value, "give at least one message")
    return conversation.messages


class _Conversation:
    """Messages that are put together from items."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._reasoning = ""

    def add_item(self, item: Any, place: str) -> None:
        if not isinstance(item, Mapping):
            _reject(place, item, "give an object with type")
        kind = item.get("type", "message")
        if kind == "message":
            role = item.get("role")
            if role not in _ROLES:
                _reject(f"{place}.role", role, f"use one of {', '.join(_ROLES)}")
            self.add_text(role, _read_text(item.get("content"), f"{place}.content"))
        elif kind == "reasoning":
            parts = item.get("content") or item.get("summary") or []
            self._reasoning = _join_texts(parts, f"{place}.content")
        elif kind == "function_call":
            self._add_call(item)
        elif kind == "function_call_output":
            text = _read_text(item.get("output"), f"{place}.output")
            self._add({"role": "tool", "tool_call_id": item.get("call_id"), "content": text})
        elif kind == "item_reference":
            _reject(
                f"{place}.type",
                kind,
                "this server keeps no responses, so send the items themselves (clients do so with "
                "store=false)",
            )
        else:
            _reject(f"{place}.type", kind, "send messages, function calls and their outputs")

    def add_text(self, role: str, text: str) -> None:
        if role == "assistant":
            self._add_answer(text)
            return
        role = "system" if role in _SYSTEM_ROLES else role
        if role == "system" and [each["role"] for each in self.messages] == ["system"]:
            self.messages[0]["content"] += f"\n\n{text}"
        else:
            self._add({"role": role, "content": text})

    def _add_answer(self, text: str) -> None:
        """Add a text of the assistant; after calls of the same turn, to their message."""
        last = self.messages[-1] if self.messages else {}
        if "tool_calls" in last and last["content"] is None:
            last["content"] = text
        else:
            self._add({"role": "assistant", "content": text, **self._take_reasoning()})

    def _add_call(self, item: Mapping[str, Any]) -> None:
        """Add a call to the assistant's message, which may consist of calls only."""
        if not self.messages or self.messages[-1]["role"] != "assistant":
            reasoning = self._take_reasoning()
            self.messages.append({"role": "assistant", "content": None, **reasoning})
        function = {name: item.get(name) for name in ("name", "arguments")}
        call = {"id": item.get("call_id"), "type": "function", "function": function}
        self.messages[-1].setdefault("tool_calls", []).append(call)

    def _take_reasoning(self) -> Message:
        """Return the reasoning before a message of the assistant."""
        reasoning, self._reasoning = self._reasoning, ""
        return {"reasoning_content": reasoning} if reasoning else {}

    def _add(self, message: Message) -> None:
        self._reasoning = ""
        self.messages.append(message)


def _read_text(content: Any, place: str) -> str:
    return content if isinstance(content, str) else _join_texts(content, place)


def _join_texts(parts: Any, place: str) -> str:
    if not isinstance(parts, list):
        _reject(place, parts, "give text or a list of parts")
    return "".join(_read_part(part, f"{place}[{index}]") for index, part in enumerate(parts))


def _read_part(part: Any, place: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else None
    if kind == "refusal":  # the text of an assistant that refused
        text = part.get("refusal")
    elif kind in (*_TEXT_PARTS, "reasoning_text", "summary_text"):
        text = part.get("text")
    else:
        text = None
    if not isinstance(text, str):
        _reject(place, part, "this model accepts only text")
    return text


def _reject(place: str, value: Any, fix: str) -> NoReturn:
    raise RequestError(f"{place}={value!r:.200}: {fix}", param="input")
