"""Find the tool calls in the text of a completion as it is generated."""

import json
import re
import secrets
import string
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from ..generation.reasoning import overlap
from .calls import ToolCallPiece
from .formats import Call, ToolFormat
from .json_scanner import JsonScanner

_ID_CHARACTERS = string.ascii_letters + string.digits
_OPENAI_ID_LENGTH = 24

# The text of a call before its arguments, as `ToolFormat.head` writes it.
_HEAD = re.compile(r'\{"name": "([^"]*)", "\w+": ')


@dataclass(frozen=True)
class ParsedText:
    """The next text that is no part of a call, and the next pieces of the calls after it."""

    text: str = ""
    calls: tuple[ToolCallPiece, ...] = ()


class ToolCallParser(Protocol):
    """A parser of one completion.

    is_done: whether no further call is allowed, so that the completion may end.
    """

    format: ToolFormat
    is_done: bool

    @property
    def held_length(self) -> int:
        """How many characters are held back."""

    def push(self, piece: str) -> ParsedText:
        """Add text and return what is now final."""

    def flush(self) -> ParsedText:
        """Return what is held back, at the end of the completion."""


@dataclass(frozen=True)
class CallFormat:
    """How to find the calls in one completion.

    names: of the tools that may be called; parallel: whether several may be; is_guided: whether a
    grammar holds the completion to calls.
    """

    format: ToolFormat
    names: frozenset[str]
    parallel: bool
    is_guided: bool

    def parser(self) -> ToolCallParser:
        """Return a parser for the completion."""
        if self.is_guided:
            return GuidedCallParser(self.format)
        return FreeCallParser(self.format, self.names, self.parallel)


class GuidedCallParser:
    """Read a completion that a grammar of `grammar` holds to calls; arguments stream."""

    def __init__(self, format_: ToolFormat) -> None:
        """Start a completion."""
        self.format, self.is_done = format_, False
        self._held = ""
        self._scanner: JsonScanner | None = None
        self._count = 0

    @property
    def held_length(self) -> int:
        """No characters that may be text are held back."""
        return 0

    def push(self, piece: str) -> ParsedText:
        """Add text and return the pieces of calls in it."""
        self._held += piece
        calls: list[ToolCallPiece] = []
        while self._read_head(calls) and self._read_arguments(calls):
            pass
        return ParsedText(calls=tuple(calls))

    def flush(self) -> ParsedText:
        """Return nothing: only texts between calls are held back."""
        return ParsedText()

    def _read_head(self, calls: list[ToolCallPiece]) -> bool:
        """Read up to the arguments of a call; return whether it has begun."""
        if self._scanner:
            return True
        if head := _HEAD.search(self._held):
            self._scanner, self._held = JsonScanner(), self._held[head.end() :]
            calls.append(_first_piece(self._count, head[1], self.format))
        return self._scanner is not None

    def _read_arguments(self, calls: list[ToolCallPiece]) -> bool:
        """Read arguments; return whether they are complete."""
        end = self._scanner.find_end(self._held, 0) if self._scanner else None
        arguments, self._held = self._held[:end], self._held[end:] if end else ""
        if arguments:
            calls.append(ToolCallPiece(self._count, arguments=arguments))
        if end is None:
            return False
        self._scanner = None
        self._count += 1
        return True


class FreeCallParser:
    """Find calls among free text.

    Text that may be a call is held back until the call is complete. It remains text unless it is a
    valid call of a known tool. White space around calls is dropped.
    """

    def __init__(self, format_: ToolFormat, names: Collection[str], parallel: bool) -> None:
        """Start a completion that may call the tools of these names, several if `parallel`."""
        self.format, self.is_done = format_, False
        self._names, self._parallel = names, parallel
        self._held = ""
        self._space = ""
        self._may_be_bare = format_.is_bare
        self._follows_call = False
        self._call: _OpenCall | None = None
        self._count = 0

    @property
    def held_length(self) -> int:
        """How many characters are held back."""
        opening = self._call.opening if self._call else ""
        return len(self._space) + len(opening) + len(self._held)

    def push(self, piece: str) -> ParsedText:
        """Add text and return what is now final."""
        self._held += piece
        return self._read(is_end=False)

    def flush(self) -> ParsedText:
        """Return what is held back, at the end of the completion."""
        last = self._read(is_end=True)
        space = "" if self._count else self._space
        return ParsedText(last.text + space, last.calls)

    def _read(self, *, is_end: bool) -> ParsedText:
        texts: list[str] = []
        calls: list[ToolCallPiece] = []
        while not self.is_done:
            if self._call is None:
                texts.append(self._read_text(is_end))
            if self._call is None or (outcome := self._call.read(self._held, is_end)) is None:
                break
            if outcome.calls:
                calls.extend(self._accept(outcome.calls))
                self._held = self._held[outcome.length :]
            else:
                texts.append(self._show(self._call.opening))
            self._may_be_bare = self.format.is_bare and bool(outcome.calls)
            self._call = None
        return ParsedText("".join(texts), tuple(calls))

    def _read_text(self, is_end: bool) -> str:
        """Return the text up to the start of a call, which is then open, or to where one may be."""
        text = self._held
        if self._may_be_bare:
            bare = text.lstrip()
            if bare.startswith("{"):
                self._call, self._held = _OpenCall(self.format, self._names, ""), bare
                return ""
            self._may_be_bare = not bare
        before, start, after = text.partition(self.format.start)
        if start:
            self._call, self._held = _OpenCall(self.format, self._names, start), after
        else:
            possible = 0 if is_end else overlap(text, [self.format.start])
            before, self._held = text[: len(text) - possible], text[len(text) - possible :]
        return self._show(before)

    def _show(self, text: str) -> str:
        """Return text, but hold back white space at its end, and drop it after a call."""
        text = self._space + text
        if self._follows_call:
            text = text.lstrip()
            self._follows_call = not text
        shown = text.rstrip()
        self._space = text[len(shown) :]
        return shown

    def _accept(self, calls: Sequence[Call]) -> list[ToolCallPiece]:
        pieces = []
        for name, arguments in calls if self._parallel else calls[:1]:
            pieces.append(_first_piece(self._count, name, self.format))
            pieces.append(ToolCallPiece(self._count, arguments=arguments))
            self._count += 1
        self._space, self._follows_call = "", True
        self.is_done = not self._parallel
        return pieces


@dataclass(frozen=True)
class _Outcome:
    """What an open call has become: calls and the length of their text, or none if it is text."""

    calls: Sequence[Call] = ()
    length: int = 0


class _OpenCall:
    """A text in which a call, or a list of calls, has begun. opening: the text that began it."""

    def __init__(self, format_: ToolFormat, names: Collection[str], opening: str) -> None:
        self.opening = opening
        self._format, self._names = format_, names
        self._scanner = JsonScanner()
        self._scanned = 0
        self._end: int | None = None
        self._calls: Sequence[Call] = ()

    def read(self, text: str, is_end: bool) -> _Outcome | None:
        """Read the text after the opening; return None while more of it is needed."""
        if self._end is None:
            if not text[self._scanned :].strip():
                return _Outcome() if is_end else None
            if not text.lstrip().startswith(("{", "[")):
                return _Outcome()
            self._end = self._scanner.find_end(text, self._scanned)
            self._scanned = len(text)
            if self._end is None:
                return _Outcome() if is_end else None
            self._calls = _parse_calls(text[: self._end], self._names)
        rest = text[self._end :].lstrip()
        closing = self._closing_length(rest, is_end)
        if self._calls and closing is None:
            return None
        if not self._calls or closing is None or closing < 0:
            return _Outcome()
        return _Outcome(self._calls, len(text) - len(rest) + closing)

    def _closing_length(self, rest: str, is_end: bool) -> int | None:
        """Return how much of the text after the JSON closes the call.

        None while that is open, -1 if the text does not fit.
        """
        end, start = self._format.end, self._format.start
        if self._format.is_bare:
            end = self._format.between.strip()
        if not end or (is_end and not rest):
            return 0
        if rest.startswith(end):
            return len(end)
        if rest.startswith(start) and not self._format.is_list:
            return 0
        if not is_end and (end.startswith(rest) or start.startswith(rest)):
            return None
        return -1


def _parse_calls(text: str, names: Collection[str]) -> Sequence[Call]:
    """Return the calls in JSON, an object or a list of them; none if any is invalid."""
    try:
        value = json.loads(text, parse_constant=_reject_constant)
        items = value if isinstance(value, list) else [value]
        return [_parse_call(item, names) for item in items]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ()


def _parse_call(item: Any, names: Collection[str]) -> Call:
    """Return a call. Raises one of several errors if it is no call of a known tool."""
    name = item["name"]
    if name not in names:
        raise ValueError(name)
    arguments = item.get("arguments", item.get("parameters"))
    if not isinstance(arguments, dict | None):
        raise TypeError(arguments)
    text = json.dumps(arguments or {}, ensure_ascii=False, allow_nan=False)
    text.encode()
    return name, text


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and infinity are no JSON


def _first_piece(index: int, name: str, format_: ToolFormat) -> ToolCallPiece:
    length = format_.id_length or _OPENAI_ID_LENGTH
    random = "".join(secrets.choice(_ID_CHARACTERS) for _ in range(length))
    call_id = random if format_.id_length else f"call_{random}"
    return ToolCallPiece(index, call_id, name)
