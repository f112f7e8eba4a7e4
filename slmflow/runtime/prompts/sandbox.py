"""A Jinja sandbox that also limits the time and memory of a template.

Jinja's own sandbox keeps templates from the system but limits only `range`: loops can be nested,
macros can recurse, and a product or padding can make a text of any size. This one counts loop
iterations and macro calls, and limits the length of every text and list that a template makes.
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

# Per rendering. A conversation of a thousand messages takes thousands of iterations, and
# milliseconds.
MAX_ITERATIONS = 200_000
MAX_SECONDS = 10

# Characters of a text, or of all texts in a list. A server accepts bodies of a megabyte, and the
# longest context holds a few million characters.
MAX_LENGTH = 4_000_000

# Of an operation that multiplies two sizes, such as a width times the length of a list.
_MAX_PRODUCT = 10**9

_MAX_INT_BITS = 10_000

# A width in the text of a %-format or of `format`.
_LARGE_WIDTH = re.compile(r"\d{6}")

_remaining: ContextVar[tuple[Iterator[int], float]] = ContextVar("_remaining")


class BoundedEnvironment(ImmutableSandboxedEnvironment):
    """An environment whose templates raise SecurityError beyond the limits.

    Render them within `limits`.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, **options: Any) -> None:
        """Accept Jinja's own options."""
        super().__init__(**options, finalize=_check_size)
        del self.globals["lipsum"]  # generates text of unlimited length
        self.filters = {name: _limit(function) for name, function in self.filters.items()}

    @contextmanager
    def limits(self) -> Iterator[None]:
        """Limit the iterations and the time of what this thread renders within the block."""
        token = _remaining.set((iter(range(MAX_ITERATIONS)), time.monotonic() + MAX_SECONDS))
        try:
            yield
        finally:
            _remaining.reset(token)

    def count_iteration(self) -> str:
        """Count a loop iteration or macro call. Templates call it; it renders as nothing."""
        iterations, deadline = _remaining.get()
        if next(iterations, None) is None or time.monotonic() > deadline:
            raise SecurityError(
                f"its loops take more than {MAX_ITERATIONS:,} iterations or {MAX_SECONDS} seconds"
            )
        return ""

    def concatenate(self, *parts: Any) -> str:
        """Return the value of `~`."""
        return _join(str(_check_size(part)) for part in parts)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return the value of a binary operator."""
        if operator == "*":
            _check_limit(MAX_LENGTH, _length(left) * _magnitude(right))
            _check_limit(MAX_LENGTH, _length(right) * _magnitude(left))
        elif operator == "**":
            _check_limit(_MAX_INT_BITS, _magnitude(left).bit_length() * _magnitude(right))
        elif operator == "%" and isinstance(left, str) and _LARGE_WIDTH.search(left):
            raise SecurityError("it pads a text to a large width")
        return _check_size(super().call_binop(context, operator, left, right))

    def call(self, context: Context, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call a function for a template."""
        _check_call(function, args, kwargs)
        return _check_size(super().call(context, function, *args, **kwargs))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        template = super()._parse(source, name, filename)
        for counted in (nodes.For, nodes.Macro, nodes.CallBlock):
            for node in template.find_all(counted):
                count = nodes.Output([_method_call("count_iteration", [])])
                node.body.insert(0, count)  # type: ignore[attr-defined]
        _ConcatTransformer().visit(template)
        template.set_environment(self)
        for created in template.find_all((nodes.Output, nodes.Call)):
            created.set_lineno(created.lineno or 1)
        return template

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Return the output of a template, a macro or a block."""
        return _join(pieces)


class _ConcatTransformer(NodeTransformer):
    """Replace each `~` by a call of `concatenate`."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Call:
        self.generic_visit(node)
        return _method_call("concatenate", node.nodes)


def _method_call(name: str, arguments: list[nodes.Expr]) -> nodes.Call:
    return nodes.Call(nodes.EnvironmentAttribute(name), arguments, [], None, None)


def _limit(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that checks its arguments and its result."""

    @functools.wraps(function)  # keeps the attributes that Jinja reads
    def call(*args: Any, **kwargs: Any) -> Any:
        _check_call(function, args, kwargs)
        return _check_size(function(*args, **kwargs))

    return call


def _check_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise SecurityError for a call whose result may be far longer than its arguments."""
    values = [getattr(function, "__self__", None), *args, *kwargs.values()]
    lengths = sorted(_length(value) for value in values)
    name = getattr(function, "__name__", "")
    if name in ("join", "do_join", "sync_do_join", "replace", "do_replace") and len(lengths) > 1:
        _check_limit(_MAX_PRODUCT, lengths[-1] * lengths[-2])
    if name != "safe_range":  # Jinja limits it
        widest = max((_magnitude(value) for value in values), default=0)
        _check_limit(MAX_LENGTH, widest)
        _check_limit(_MAX_PRODUCT, sum(lengths) * widest)
    if name in ("format", "do_format", "format_map", "wrapper") and any(
        isinstance(value, str) and _LARGE_WIDTH.search(value) for value in values
    ):
        raise SecurityError("it pads a text to a large width")


def _check_size(value: Any) -> Any:
    """Return a value if it is within the limits."""
    if isinstance(value, int):
        _check_limit(_MAX_INT_BITS, value.bit_length())
    elif isinstance(value, Iterator):
        return _check_items(value)
    else:
        _check_limit(MAX_LENGTH, _length(value))
    return value


def _check_items(items: Iterator[Any]) -> Iterator[Any]:
    length = 0
    for item in items:
        length += 1 + _length(item)
        _check_limit(MAX_LENGTH, length)
        yield item


def _join(pieces: Iterable[str]) -> str:
    return "".join(_check_items(iter(pieces)))


def _length(value: Any) -> int:
    """Return the length of a text or of all items of a list or dict, or one above the limit."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return _length(list(value.keys())) + _length(list(value.values()))
    if not isinstance(value, list | tuple | set | frozenset):
        return 0
    length = 0
    for item in value:
        length += 1 + _length(item)
        if length > MAX_LENGTH:
            break
    return length


def _magnitude(value: Any) -> int:
    return abs(int(value)) if isinstance(value, int | float) and value == value else 0


def _check_limit(limit: int, size: float) -> None:
    if size > limit:
        raise SecurityError(f"it makes a text, a list or a number of size {size:.3g}")
