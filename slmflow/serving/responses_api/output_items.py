"""The items of a response's output, and the events that stream them."""

from dataclasses import dataclass
from typing import Any, Protocol
from uuid import uuid4

Fields = dict[str, Any]


class OpenItem(Protocol):
    """An item that is being written. Its methods return the events that tell of it.

    key: what the item is; pieces of another key begin another item.
    """

    key: object

    def open(self) -> list[Fields]:
        """Begin the item."""

    def write(self, piece: str, logprobs: list[Fields]) -> list[Fields]:
        """Add a piece of text."""

    def close(self, status: str) -> list[Fields]:
        """End the item."""

    def to_json(self, status: str) -> Fields:
        """Return the item as it is now."""


@dataclass(frozen=True)
class TextStyle:
    """How a text is an item: its type, the list with the text, and the names of events."""

    item: str
    prefix: str
    parts: str
    part: str
    part_event: str
    text_event: str
    index: str


ANSWER = TextStyle(
    item="message",
    prefix="msg",
    parts="content",
    part="output_text",
    part_event="response.content_part",
    text_event="response.output_text",
    index="content_index",
)
REASONING = TextStyle(
    item="reasoning",
    prefix="rs",
    parts="content",
    part="reasoning_text",
    part_event="response.content_part",
    text_event="response.reasoning_text",
    index="content_index",
)
SUMMARY = TextStyle(
    item="reasoning",
    prefix="rs",
    parts="summary",
    part="summary_text",
    part_event="response.reasoning_summary_part",
    text_event="response.reasoning_summary_text",
    index="summary_index",
)


class TextItem:
    """The answer or the reasoning: an item with one part of text."""

    def __init__(self, style: TextStyle, output_index: int) -> None:
        """Start an empty one, as the item with this index."""
        self.key: object = style
        self._style, self._id = style, new_id(style.prefix)
        self._text = ""
        self._logprobs: list[Fields] = []
        self._item_place: Fields = {"output_index": output_index}
        self._place: Fields = {"item_id": self._id, **self._item_place, style.index: 0}

    def open(self) -> list[Fields]:
        """Begin the item and its part."""
        part = f"{self._style.part_event}.added"
        return [
            _item_event("added", self._item_place, self._to_json("in_progress", [])),
            {"type": part, **self._place, "part": self._part()},
        ]

    def write(self, piece: str, logprobs: list[Fields]) -> list[Fields]:
        """Add a piece of text."""
        self._text += piece
        self._logprobs += logprobs
        event = {"type": f"{self._style.text_event}.delta", **self._place, "delta": piece}
        return [{**event, **self._with_logprobs(logprobs)}]

    def close(self, status: str) -> list[Fields]:
        """End the part and the item."""
        text = {"text": self._text, **self._with_logprobs(self._logprobs)}
        return [
            {"type": f"{self._style.text_event}.done", **self._place, **text},
            {"type": f"{self._style.part_event}.done", **self._place, "part": self._part()},
            _item_event("done", self._item_place, self.to_json(status)),
        ]

    def to_json(self, status: str) -> Fields:
        """Return the item as it is now."""
        return self._to_json(status, [self._part()])

    def _to_json(self, status: str, parts: list[Fields]) -> Fields:
        head = {"id": self._id, "type": self._style.item, "status": status}
        own: Fields = {"role": "assistant"} if self._style is ANSWER else {"summary": []}
        return {**head, **own, self._style.parts: parts}

    def _part(self) -> Fields:
        part: Fields = {"type": self._style.part, "text": self._text}
        if self._style is ANSWER:
            part |= {"annotations": [], "logprobs": self._logprobs}
        return part

    def _with_logprobs(self, logprobs: list[Fields]) -> Fields:
        return {"logprobs": logprobs} if self._style is ANSWER else {}


class CallItem:
    """A call of a function."""

    def __init__(self, index: int, call_id: str, name: str, output_index: int) -> None:
        """Start a call without arguments: of this index among the calls, as this item."""
        self.key: object = index
        self._id, self._call = new_id("fc"), {"call_id": call_id, "name": name}
        self._arguments = ""
        self._item_place: Fields = {"output_index": output_index}
        self._place: Fields = {"item_id": self._id, **self._item_place}

    def open(self) -> list[Fields]:
        """Begin the item."""
        return [_item_event("added", self._item_place, self.to_json("in_progress"))]

    def write(self, piece: str, logprobs: list[Fields]) -> list[Fields]:
        """Add a piece of the arguments."""
        self._arguments += piece
        kind = "response.function_call_arguments.delta"
        return [{"type": kind, **self._place, "delta": piece}]

    def close(self, status: str) -> list[Fields]:
        """End the item."""
        done = {"name": self._call["name"], "arguments": self._arguments}
        return [
            {"type": "response.function_call_arguments.done", **self._place, **done},
            _item_event("done", self._item_place, self.to_json(status)),
        ]

    def to_json(self, status: str) -> Fields:
        """Return the item as it is now."""
        head = {"id": self._id, "type": "function_call", "status": status}
        return {**head, **self._call, "arguments": self._arguments}


def new_id(prefix: str) -> str:
    """Return a new id, of a response or an item."""
    return f"{prefix}_{uuid4().hex}"


def _item_event(what: str, place: Fields, item: Fields) -> Fields:
    return {"type": f"response.output_item.{what}", **place, "item": item}
