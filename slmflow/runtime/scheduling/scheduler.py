"""Share one model among all requests: form batches between two tokens (continuous batching).

ONNX Runtime GenAI prefills several rows as a whole and cannot add rows to a batch later. The
policy:

- Waiting requests are batched by `batch_planning`: the oldest request picks the next batch.
- A later request gets a batch of its own, and the batches take turns, one token each. Where it is
  faster, a running batch is restarted together with the new requests instead.
- The prompt of a single request is read in parts, one in each turn. While somebody reads a stream,
  parts are short, and only batches that are prefilled in a moment are formed.
- A request whose start a running request has read may wait for that, and go on from it.
- Rows of finished requests stay in a batch and cost time. When they have cost more than a restart,
  the unfinished requests are restarted without them.

A restart replays the tokens generated so far, so no completion changes.
"""

import threading
import time
from collections.abc import Iterable, Sequence

from ..generation.active_request import ActiveRequest
from ..generation.engine import Engine, padded_tokens
from .batch_planning import is_merge_faster, plan_next_batch, remaining_steps, restart_s
from .cost_model import CostModel
from .running_batch import RunningBatch
from .shared_prefixes import SharedPrefixes

# Two batches let a second request start before the first ends; more would be smaller and slower.
# If the oldest request has waited for STARVATION_S seconds, up to MAX_STARVED_BATCHES may run.
MAX_BATCHES, MAX_STARVED_BATCHES, STARVATION_S = 2, 4, 2.0

# How long a part of a prompt takes to read, and at most a batch of several prompts, while somebody
# reads a stream; and how long a part takes otherwise, so that a cancelled request ends soon.
PART_S, MOMENT_S, LONG_PART_S = 0.2, 0.4, 0.5

# Tokens of a part. More are read no faster and take more memory; a few are read slowly, which only
# those who wait for a stream should suffer.
LEAST_TOKENS, LEAST_LONG_TOKENS, MOST_TOKENS = 16, 128, 512

# After a prefill, wait until no request has arrived for this many seconds: requests sent during
# the prefill arrive all at once.
ARRIVAL_S = 0.0002

# Requests considered for a batch, so that planning costs the same for any length of the queue.
MAX_PLANNED = 128


class Scheduler:
    """The queue of a model, and the thread that runs the model while there is work."""

    def __init__(self, engine: Engine) -> None:
        """Generate with an engine."""
        self._engine = engine
        self._waiting: list[ActiveRequest] = []
        self._running: list[RunningBatch] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._costs = CostModel()
        self._rounds = 0
        self._held_in: tuple[int, ...] | None = None

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
        """Admit waiting requests, read a part of a prompt, and decode a token of each batch."""
        self._rounds += 1
        if self._waiting and self._has_room() and self._situation() != self._held_in:
            admitted = self._next_batch()
            self._start(admitted)
            self._remove_from_queue(admitted)
        if reading := self._next_to_read():
            self._read(reading)
        for running in self._running:
            if not self._may_grow(running):
                self._step(running)
        for running in self._running:
            if not running.unfinished:
                running.close()
        self._running = [running for running in self._running if running.unfinished]

    def _has_room(self) -> bool:
        """Return whether another batch may start. Long prompts that are read do not count."""
        waited_s = time.perf_counter() - self._waiting[0].submitted_at
        if waited_s > STARVATION_S:
            return len(self._running) < MAX_STARVED_BATCHES
        part = self._part_tokens()
        short = [running for running in self._running if running.unread <= part]
        return len(short) < MAX_BATCHES and len(self._running) < MAX_STARVED_BATCHES

    def _next_batch(self) -> list[ActiveRequest]:
        """Return the next batch: the oldest waiting request plus compatible ones."""
        with self._lock:
            waiting = list(self._waiting)
        for request in waiting:
            request.finish_if_cancelled()
        waiting = [request for request in waiting if not request.finished][:MAX_PLANNED]
        ready = [request for request in waiting if not self._should_wait(request)]
        if not ready:
            self._held_in = self._situation() if waiting else None
            return []
        prefixes = SharedPrefixes(ready, self._engine)
        return plan_next_batch(ready, self._can_batch, self._costs, prefixes.count_unread)

    def _may_grow(self, running: RunningBatch) -> bool:
        """Return whether to offer a batch, once, to requests that arrived while it was read.

        After its first token somebody may wait for the next one.
        """
        if running.batch is None or not running.is_fresh or running.is_offered:
            return False
        running.is_offered = True
        return bool(self._waiting)

    def _situation(self) -> tuple[int, ...]:
        """Return what decides whether requests wait: the running batches, and how many wait."""
        return len(self._waiting), *map(id, self._running)

    def _should_wait(self, request: ActiveRequest) -> bool:
        """Return whether a request saves time by waiting for a running one with the same start.

        It goes on from what that has read. Nobody watches its answer meanwhile.
        """
        if request.streamed or not self._running:
            return False
        saved_now = request.read_length - self._engine.count_unread([request])
        for running in self._running:
            if len(running.requests) == 1:
                [other] = running.requests
                saved = self._engine.shared_length(request, other) - saved_now
                steps_s = remaining_steps([other]) * self._costs.step_s(1)
                wait_s = self._costs.prefill_s(running.unread) + steps_s
                if self._costs.prefill_s(saved) > wait_s:
                    return True
        return False

    def _can_batch(self, requests: Sequence[ActiveRequest]) -> bool:
        """Return whether these may be batched now: a stream must not wait for their prefill."""
        return self._engine.can_batch(requests) and (
            len(requests) == 1
            or not self._has_reader()
            or self._costs.prefill_s(padded_tokens(requests)) <= MOMENT_S
        )

    def _has_reader(self) -> bool:
        """Return whether somebody reads a stream and waits for its next token."""
        return any(running.has_reader for running in self._running)

    def _start(self, admitted: Sequence[ActiveRequest]) -> None:
        """Start a batch, or restart a running one with the admitted requests."""
        if not admitted:
            return
        unread = self._engine.count_unread(admitted)
        for running in self._running:
            unfinished = running.unfinished
            if (
                unfinished
                and self._may_pause(running, admitted)
                and is_merge_faster(
                    admitted, unfinished, self._can_batch, self._costs, unread + running.unread
                )
            ):
                self._restart(running, [*unfinished, *admitted])
                return
        started = RunningBatch()
        self._restart(started, admitted)
        self._running.append(started)

    def _may_pause(self, running: RunningBatch, admitted: Sequence[ActiveRequest]) -> bool:
        """Return whether a batch may be restarted with others: its readers wait for that."""
        return not running.has_reader or (
            restart_s([*running.unfinished, *admitted], self._costs) <= MOMENT_S
        )

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
        _fail([*waiting, *(each for batch in running for each in batch.requests)], error)
        for batch in running:
            batch.close()

    def _restart(self, running: RunningBatch, requests: Sequence[ActiveRequest]) -> None:
        """Begin to read the prompts of a new batch, or of one that is restarted."""
        for request in requests:
            request.start_prefill()
        running.close()
        try:
            running.read(self._engine.start_prefill(requests))
        except Exception as error:
            _fail(requests, error)

    def _next_to_read(self) -> RunningBatch | None:
        """Return the batch whose prompt is read on: in turns the oldest and the shortest."""
        reading = [running for running in self._running if running.unread]
        if not reading:
            return None
        if self._rounds % 2:
            return reading[0]
        return min(reading, key=lambda running: running.unread)

    def _read(self, running: RunningBatch) -> None:
        """Read a part of a prompt, or the prompts of a batch."""
        for request in running.unfinished:
            request.finish_if_cancelled()
        if not running.unfinished:
            return
        unread, start = running.unread, time.perf_counter()
        try:
            running.advance(self._part_tokens())
        except Exception as error:
            _fail(running.requests, error)
            return
        self._costs.record_prefill(unread - running.unread, time.perf_counter() - start)
        self._wait_for_arrivals()

    def _part_tokens(self) -> int:
        """Return how many tokens of a prompt to read at once."""
        if self._has_reader():
            seconds, least = PART_S, LEAST_TOKENS
        else:
            seconds, least = LONG_PART_S, LEAST_LONG_TOKENS
        return max(least, min(self._costs.tokens_in(seconds), MOST_TOKENS))

    def _step(self, running: RunningBatch) -> None:
        if running.batch is None:
            return
        for request in running.unfinished:
            request.finish_if_cancelled()
        unfinished = running.unfinished
        if not unfinished:
            return
        if running.batch.is_full:
            self._requeue(running)
            return
        if running.wasted_s and running.wasted_s > restart_s(unfinished, self._costs):
            self._restart(running, unfinished)
            return
        rows = len(running.requests)
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

    def _requeue(self, running: RunningBatch) -> None:
        """Put the unfinished requests of a full batch at the front of the queue."""
        unfinished = running.unfinished
        running.close()
        with self._lock:
            self._waiting[:0] = unfinished

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
