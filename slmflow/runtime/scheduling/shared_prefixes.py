"""How many tokens a request has to read, if waiting requests with its prefix are read before it."""

from collections.abc import Sequence
from itertools import pairwise

from ..generation.active_request import ActiveRequest
from ..generation.engine import Engine


class SharedPrefixes:
    """Counts the unread tokens of waiting requests.

    Requests with a common start, such as a system prompt or examples, save reading it if each runs
    alone: the next goes on from what the last has read. So each of them counts as if another had
    been read before.
    """

    def __init__(self, waiting: Sequence[ActiveRequest], engine: Engine) -> None:
        """Count as an engine does."""
        self._engine = engine
        self._lengths = dict.fromkeys(waiting, 0)
        ordered = sorted(waiting, key=lambda request: list(request.tokens_to_read))
        for one, other in pairwise(ordered):
            for request, before in ((one, other), (other, one)):
                length = engine.shared_length(request, before)
                self._lengths[request] = max(self._lengths[request], length)

    def count_unread(self, requests: Sequence[ActiveRequest]) -> int:
        """Return how many tokens a prefill of these requests reads, padding included."""
        unread = self._engine.count_unread(requests)
        if len(requests) > 1:
            return unread
        [request] = requests
        return min(unread, request.read_length - self._lengths[request])
