"""Tool calls: whole, and in pieces as they are generated."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class ToolCall:
    """A call of a tool. arguments: JSON text, which is incomplete where the completion was cut."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True)
class ToolCallPiece:
    """The next piece of a call.

    index: of the call among those of the completion; id, name: of the call, in its first piece
    only; arguments: the next part of the JSON text.
    """

    index: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


def join_pieces(pieces: Iterable[ToolCallPiece]) -> tuple[ToolCall, ...]:
    """Return the calls in pieces, in order."""
    calls: list[ToolCall] = []
    for piece in pieces:
        if piece.id is not None and piece.name is not None:
            calls.append(ToolCall(piece.id, piece.name, piece.arguments))
        else:
            last = calls.pop()
            calls.append(ToolCall(last.id, last.name, last.arguments + piece.arguments))
    return tuple(calls)
