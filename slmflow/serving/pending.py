"""Requests in the model's process, and their events (see `slmflow.runtime.protocol`)."""

import asyncio
from collections.abc import Callable, Sequence

from slmflow.runtime.completions import total_usage
from slmflow.runtime.protocol import Event, is_final


class PendingRequest:
    """A request in the model's process, and its events."""

    def __init__(
        self, cancel: Callable[[], None], deliver: Callable[[Event], None] | None = None
    ) -> None:
        """Follow a request that `cancel` ends. deliver: takes its events; None keeps them here."""
        self.started = False
        self.cancelled = False
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._deliver = deliver or self._events.put_nowait
        self._cancel = cancel

    def put(self, event: Event) -> None:
        """Add an event of the request."""
        self.started = True
        self._deliver(event)

    async def next_event(self) -> Event:
        """Return the next event."""
        return await self._events.get()

    async def final_event(self) -> Event:
        """Return the event that ends the request."""
        while not is_final(event := await self.next_event()):
            pass
        return event

    def cancel(self) -> None:
        """End the request early. Do nothing if it has ended."""
        if not self.cancelled:
            self.cancelled = True
            self._cancel()


class PendingChoices:
    """Requests for the choices of one response, followed as one request.

    A piece has the `index` of its choice. A choice ends with a piece that has its `finish_reason`.
    Once all have ended, `finished` has all their `choices`. An error of one ends all.
    """

    def __init__(self, n: int) -> None:
        """Follow the requests that are opened: `n` in a row have the same prompt."""
        self._n = n
        self._requests: list[PendingRequest] = []
        self._finished: dict[int, Event] = {}
        self._events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()

    def open(self, cancel: Callable[[], None]) -> PendingRequest:
        """Return the request for the next choice, which `cancel` ends."""
        index = len(self._requests)
        request = PendingRequest(cancel, lambda event: self._events.put_nowait((index, event)))
        self._requests.append(request)
        return request

    async def next_event(self) -> Event:
        """Return the next event of any choice."""
        if len(self._finished) == len(self._requests):
            in_order = [self._finished[index] for index in range(len(self._requests))]
            return {"type": "finished", "choices": in_order, **merge_completions(in_order, self._n)}
        index, event = await self._events.get()
        if not is_final(event):
            return {**event, "index": index}
        if event["type"] != "finished":
            self.cancel()
            return event
        self._finished[index] = event
        end = {"finish_reason": event["finish_reason"], "usage": event["usage"]}
        return {"type": "piece", "index": index, "text": "", **end}

    async def final_event(self) -> Event:
        """Return the event that ends all choices."""
        while not is_final(event := await self.next_event()):
            pass
        return event

    def cancel(self) -> None:
        """End all choices early. Do nothing for those that have ended."""
        for request in self._requests:
            request.cancel()


Pending = PendingRequest | PendingChoices


def merge_completions(finished: Sequence[Event], n: int = 1) -> Event:
    """Return the completions of one request as one: total usage, earliest start, latest end.

    n: how many in a row have the same prompt, which counts once.
    """
    return {
        "text": [event["text"] for event in finished],
        "finish_reason": ", ".join(sorted({event["finish_reason"] for event in finished})),
        "usage": total_usage([event["usage"] for event in finished], n),
        "queue_s": min(event["queue_s"] for event in finished),
        "first_token_s": min(event["first_token_s"] for event in finished),
        "total_s": max(event["total_s"] for event in finished),
        "ended_ns": max(event["ended_ns"] for event in finished),
    }
