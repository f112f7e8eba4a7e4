"""Requests that are cancelled together."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from .generation.active_request import ActiveRequest
from .generation.events import Completion

_current: ContextVar["RequestGroup | None"] = ContextVar("_current", default=None)


class RequestGroup:
    """Requests in progress, and those that join later. Threads may share a group."""

    def __init__(self, requests: Sequence[ActiveRequest] = ()) -> None:
        """Start with some requests."""
        self._requests = list(requests)
        self._cancelled = False
        self._lock = threading.Lock()

    def add(self, requests: Sequence[ActiveRequest]) -> None:
        """Add requests, and cancel them if the group has been cancelled."""
        with self._lock:
            self._requests.extend(requests)
            if self._cancelled:
                self._cancel_all()

    def cancel(self) -> None:
        """Cancel all requests, and those that are added later."""
        with self._lock:
            self._cancelled = True
            self._cancel_all()

    def completions(self) -> list[Completion]:
        """Return the finished completions."""
        return [request.completion for request in self._requests if request.completion]

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """Let `join_current_group` of this thread add to this group within the block."""
        token = _current.set(self)
        try:
            yield
        finally:
            _current.reset(token)

    def _cancel_all(self) -> None:
        for request in self._requests:
            request.cancel()


def join_current_group(requests: Sequence[ActiveRequest]) -> None:
    """Add requests to the group that this thread collects, if there is one."""
    if group := _current.get():
        group.add(requests)
