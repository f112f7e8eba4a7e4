"""A batch in the scheduler's hands: first its prompts are read, then it is decoded."""

from ..generation.active_request import ActiveRequest
from ..generation.engine import Batch, Prefill


class RunningBatch:
    """A batch that is being read or decoded, and the seconds spent on rows that are finished.

    batch: None until all prompts are read. is_fresh: whether the first step is still to come. It is
    free: prefill has computed its logits. is_offered: whether requests that arrived during the
    prefill could join.
    """

    def __init__(self) -> None:
        """Start without requests."""
        self.requests: list[ActiveRequest] = []
        self.batch: Batch | None = None
        self.wasted_s, self.is_fresh, self.is_offered = 0.0, True, False
        self._prefill: Prefill | None = None

    @property
    def unfinished(self) -> list[ActiveRequest]:
        """The requests that are still to be answered."""
        return [request for request in self.requests if not request.finished]

    @property
    def unread(self) -> int:
        """How many tokens are still to be read, padding included."""
        return self._prefill.unread if self._prefill else 0

    @property
    def has_reader(self) -> bool:
        """Whether somebody reads a stream of the batch, and has received a token."""
        return any(each.streamed and each.generated for each in self.unfinished)

    def read(self, prefill: Prefill) -> None:
        """Begin a prefill."""
        self.requests, self._prefill = prefill.requests, prefill
        self.wasted_s, self.is_fresh, self.is_offered = 0.0, True, False

    def advance(self, tokens: int) -> None:
        """Read about so many tokens more."""
        if self._prefill and (batch := self._prefill.advance(tokens)):
            self.batch, self._prefill = batch, None

    def close(self) -> None:
        """Give up what is being read or decoded; later requests may go on from it."""
        prefill, batch = self._prefill, self.batch
        self.requests, self._prefill, self.batch = [], None, None
        if prefill:
            prefill.close()
        if batch:
            batch.close()
