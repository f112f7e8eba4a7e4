"""Share one model among all requests: form batches between two tokens (continuous batching).

ONNX Runtime GenAI prefills a batch as a whole and cannot add rows to it later. The policy:

- Waiting requests are batched by `batch_planning`: the oldest request picks the next batch.
- A later request gets a batch of its own, and the batches take turns, one token each. Where it is
  faster, a running batch is restarted together with the new requests instead.
- Rows of finished requests stay in a batch and cost time. When they have cost more than a restart,
  the unfinished requests are restarted without them.

A restart replays the tokens generated so far, so no completion changes.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..generation.active_request import ActiveRequest
from ..generation.engine import Batch, Engine
from .batch_planning import is_merge_faster, padded_tokens, plan_next_batch, restart_s
from .cost_model import CostModel

# Two batches let a second request start before the first ends; more would be smaller and slower.
# If the oldest request has waited for STARVATION_S seconds, up to MAX_STARVED_BATCHES may run.
MAX_BATCHES, MAX_STARVED_BATCHES, STARVATION_S = 2, 4, 2.0

# After a prefill, wait until no request has arrived for this many seconds: requests sent during
# the prefill arrive all at once.
ARRIVAL_S = 0.0002

# Requests considered for a batch, so that planning costs the same for any length of the queue.
MAX_PLANNED = 128


@dataclass
class _RunningBatch:
    """A batch, and the seconds spent on rows that are finished.

    is_fresh: whether the first step is still to come. It is free: prefill has computed its logits.
    """

    batch: Batch
    wasted_s: float = 0.0
    is_fresh: bool = True

    @property
    def unfinished(self) -> list[ActiveRequest]:
        return [request for request in self.batch.requests if not request.finished]

    def replace(self, batch: Batch | None) -> None:
        """Continue with another batch, or not at all if its prefill failed (None)."""
        if batch is not None:
            self.batch, self.wasted_s, self.is_fresh = batch, 0.0, True


class Scheduler:
    """The queue of a model, and the thread that runs the model while there is work."""

    def __init__(self, engine: Engine) -> None:
        """Generate with an engine."""
        self._engine = engine
        self._waiting: list[ActiveRequest] = []
        self._running: list[_RunningBatch] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._costs = CostModel()

    def submit(self, requests: Iterable[ActiveRequest]) -> None:
        """Queue requests. Each delivers its own events."""
        with self._lock:
            self._waiting.extend(requests)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="generation", daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        """Generate until there is no more work."""
        while self._has_work():
            try:
                self._run_round()
            except Exception as error:  # otherwise the waiting requests would never end
                self._fail_all(error)

    def _has_work(self) -> bool:
        """Return whether there is work. Without work the thread ends; `submit` starts another."""
        with self._lock:
            if self._running or self._waiting:
                return True
            self._thread = None
            return False

    def _run_round(self) -> None:
        """Admit waiting requests, then decode one token of each running batch."""
        if self._waiting and len(self._running) < self._max_batches():
            admitted = self._next_batch()
            self._start(admitted)
            self._remove_from_queue(admitted)
        for running in self._running:
            self._step(running)
        self._running = [running for running in self._running if running.unfinished]

    def _max_batches(self) -> int:
        waited_s = time.perf_counter() - self._waiting[0].submitted_at
        return MAX_STARVED_BATCHES if waited_s > STARVATION_S else MAX_BATCHES

    def _next_batch(self) -> list[ActiveRequest]:
        """Return the next batch: the oldest waiting request plus compatible ones."""
        with self._lock:
            waiting = list(self._waiting)
        for request in waiting:
            request.finish_if_cancelled()
        waiting = [request for request in waiting if not request.finished][:MAX_PLANNED]
        return plan_next_batch(waiting, self._engine.can_batch, self._costs) if waiting else []

    def _start(self, admitted: Sequence[ActiveRequest]) -> None:
        """Start a batch, or restart a running one with the admitted requests."""
        if not admitted:
            return
        for running in self._running:
            unfinished = running.unfinished
            if unfinished and is_merge_faster(
                admitted, unfinished, self._engine.can_batch, self._costs
            ):
                running.replace(self._prefill([*unfinished, *admitted]))
                return
        if batch := self._prefill(admitted):
            self._running.append(_RunningBatch(batch))

    def _remove_from_queue(self, admitted: Iterable[ActiveRequest]) -> None:
        """Remove requests that are admitted or finished."""
        removed = set(admitted)
        with self._lock:
            self._waiting = [
                each for each in self._waiting if not (each in removed or each.finished)
            ]

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        running, self._running = self._running, []
        _fail([*waiting, *(each for batch in running for each in batch.unfinished)], error)

    def _step(self, running: _RunningBatch) -> None:
        for request in running.unfinished:
            request.finish_if_cancelled()
        unfinished = running.unfinished
        if not unfinished:
            return
        if running.wasted_s and running.wasted_s > restart_s(unfinished, self._costs):
            running.replace(self._prefill(unfinished))
            return
        rows = len(running.batch.requests)
        start = time.perf_counter()
        try:
            running.batch.step()
        except Exception as error:
            _fail(unfinished, error)
        if running.is_fresh:
            running.is_fresh = False
            return
        self._costs.record_step(rows, time.perf_counter() - start)
        if len(unfinished) < rows:
            running.wasted_s += self._costs.step_s(rows) - self._costs.step_s(len(unfinished))

    def _prefill(self, requests: Sequence[ActiveRequest]) -> Batch | None:
        """Prefill requests as a batch. If that fails, the requests fail and None is returned."""
        for request in requests:
            request.start_prefill()
        start = time.perf_counter()
        try:
            batch = self._engine.prefill(requests)
        except Exception as error:
            _fail(requests, error)
            return None
        self._costs.record_prefill(padded_tokens(requests), time.perf_counter() - start)
        self._wait_for_arrivals()
        return batch

    def _wait_for_arrivals(self) -> None:
        """Let other threads submit: the runtime holds Python's global lock during a prefill."""
        known = -1
        while len(self._waiting) > known:
            known = len(self._waiting)
            time.sleep(ARRIVAL_S)


def _fail(requests: Iterable[ActiveRequest], error: Exception) -> None:
    for request in requests:
        if not request.finished:
            request.fail(error)
