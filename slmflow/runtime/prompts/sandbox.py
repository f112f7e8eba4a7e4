"""Jinja's sandbox, which keeps a template from the system, with bounds on its time and memory.

The sandbox alone bounds `range`: loops may be nested, macros may call themselves, and a product or
a padded text may be of any size. Here the turns of loops and the calls of macros are counted, and
no text or list that a template makes may be longer than any prompt is.
"""

import functools
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

# Of one rendering; a conversation of a thousand messages takes some thousands, and milliseconds.
MOST_TURNS = 200_000
MOST_SECONDS = 10

# Characters of a text, or of all texts in a list. A server takes bodies of a megabyte, and the
# longest context is a few million characters.
MOST_LENGTH = 4_000_000

# A width, say, times the length of what it is applied to.
_MOST_WIDENED = 10**9

_MOST_BITS = 10_000

# The width of a %-format or of `format` is in its text.
_WIDTH = re.compile(r"\d{6}")

_left: ContextVar[tuple[Iterator[int], float]] = ContextVar("left")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """An environment whose templates raise SecurityError where they do too much.

    They render within `counting`.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        """Take Jinja's own options."""
        super().__init__(**options, finalize=_checked)
        del self.globals["lipsum"]  # text without bounds, for trying out the layout of pages
        self.filters = {name: _bounded(function) for name, function in self.filters.items()}

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count the turns of what this thread renders meanwhile, and bound its time."""
        token = _left.set((iter(range(MOST_TURNS)), time.monotonic() + MOST_SECONDS))
        try:
            yield
        finally:
            _left.reset(token)

    def turn(self) -> str:
        """Note a turn of a loop or a call of a macro."""
        turns, deadline = _left.get()
        if next(turns, None) is None or time.monotonic() > deadline:
            raise SecurityError(
                f"its loops take more than {MOST_TURNS:,} turns or {MOST_SECONDS} seconds"
            )
        return ""

    def joined(self, *parts: Any) -> str:
        """Return what `~` makes of values."""
        return _concatenated(str(_checked(part)) for part in parts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return what a binary operator makes of values."""
        if operator == "*":
            _refuse_above(MOST_LENGTH, _length(left) * _number(right))
            _refuse_above(MOST_LENGTH, _length(right) * _number(left))
        elif operator == "**":
            _refuse_above(_MOST_BITS, _number(left).bit_length() * _number(right))
        elif operator == "%" and isinstance(left, str) and _WIDTH.search(left):
            raise SecurityError("it pads a text to a great width")
        return _checked(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what a template calls."""
        _refuse_widening(function, args, kwargs)
        return _checked(super().call(context, function, *args, **kwargs))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        for counted in (nodes.For, nodes.Macro, nodes.CallBlock):
            for node in template.find_all(counted):
                node.body.insert(0, nodes.Output([_method("turn", [])]))  # type: ignore[attr-defined]
        _Concatenations().visit(template)
        template.set_environment(self)
        for made in template.find_all((nodes.Output, nodes.Call)):
            made.set_lineno(made.lineno or 1)
        return template

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Return what a template, a macro or a block has written."""
        return _concatenated(pieces)


class _Concatenations(NodeTransformer):
    """Put a call of `joined` in the place of each `~`."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        self.generic_visit(node)
        return _method("joined", node.nodes)


def _method(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def _bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that takes and gives no more than is allowed."""

    @functools.wraps(function)  # with the marks by which Jinja knows what to pass
    def call(*args: Any, **kwargs: Any) -> Any:
        _refuse_widening(function, args, kwargs)
        return _checked(function(*args, **kwargs))

    return call


def _refuse_widening(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise SecurityError for a call whose result may be far longer than what it is given."""
    given = [getattr(function, "__self__", None), *args, *kwargs.values()]
    lengths = sorted(_length(value) for value in given)
    name = getattr(function, "__name__", "")
    if name in ("join", "do_join", "sync_do_join", "replace", "do_replace") and len(lengths) > 1:
        _refuse_above(_MOST_WIDENED, lengths[-1] * lengths[-2])
    if name != "safe_range":  # which has a bound of its own
        widest = max((_number(value) for value in given), default=0)
        _refuse_above(MOST_LENGTH, widest)
        _refuse_above(_MOST_WIDENED, sum(lengths) * widest)
    if name in ("format", "do_format", "format_map", "wrapper") and any(
        isinstance(value, str) and _WIDTH.search(value) for value in given
    ):
        raise SecurityError("it pads a text to a great width")


def _checked(value: Any) -> Any:
    """Return a value of a template's, if it is not too large."""
    if isinstance(value, int):
        _refuse_above(_MOST_BITS, value.bit_length())
    elif isinstance(value, Iterator):
        return _checked_items(value)
    else:
        _refuse_above(MOST_LENGTH, _length(value))
    return value


def _checked_items(items: Iterator[Any]) -> Iterator[Any]:
    length = 0
    for item in items:
        length += 1 + _length(item)
        _refuse_above(MOST_LENGTH, length)
        yield item


def _concatenated(pieces: Iterable[str]) -> str:
    return "".join(_checked_items(iter(pieces)))


def _length(value: Any) -> int:
    """Return how long a text is, or all in a list or dict, at least where it is too long."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return _length(list(value.keys())) + _length(list(value.values()))
    if not isinstance(value, list | tuple | set | frozenset):
        return 0
    length = 0
    for item in value:
        length += 1 + _length(item)
        if length > MOST_LENGTH:
            break
    return length


def _number(value: Any) -> int:
    return abs(int(value)) if isinstance(value, int | float) and value == value else 0


def _refuse_above(most: int, found: float) -> None:
    if found > most:
        raise SecurityError(f"it makes a text, a list or a number of size {found:.3g}")
