"""Share one model among all who ask: real batches, formed of what waits, between two tokens.

A batch of ONNX Runtime GenAI takes no further rows, and reads its prompts together. So who comes
later gets a batch of its own, and batches take turns, a token each. Where it costs little, the rows
of a batch are read anew together with those who wait, or without the rows that are finished.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .answer import Job
from .engine import Batch, Engine

# So that who comes second need not wait for the first to finish; with more, each would be smaller
# and all of them slower.
BATCHES = 2

# Of those who wait, so many are looked at for a batch: else each batch of a long queue would cost
# more than of a short one.
LOOKED_AT = 256

# Rows under way are read anew with those who join them, if they add at most this to the reading.
REREAD_SHARE = 0.5


@dataclass
class _Turn:
    """A batch, and what was spent on rows of it that are finished, in seconds."""

    batch: Batch
    wasted_s: float = 0.0

    @property
    def live(self) -> list[Job]:
        return [job for job in self.batch.rows if not job.finished]


class Scheduler:
    """The queue before a model, and the thread that runs the model while there is work."""

    def __init__(self, engine: Engine) -> None:
        """Answer jobs with an engine."""
        self._engine = engine
        self._waiting: list[Job] = []
        self._turns: list[_Turn] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._token_s = 0.0  # of reading, as measured last

    def submit(self, jobs: Iterable[Job]) -> None:
        """Have jobs answered; each tells its own listener."""
        with self._lock:
            self._waiting.extend(jobs)
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="generation", daemon=True)
                thread.start()
                self._thread = thread

    def _work(self) -> None:
        """Generate until nobody waits."""
        while self._wanted():
            try:
                self._round()
            except Exception as error:  # else those who wait would do so for ever
                self._fail_all(error)

    def _wanted(self) -> bool:
        """Return whether there is work; else the thread ends; the next job starts another."""
        with self._lock:
            if self._turns or self._waiting:
                return True
            self._thread = None
            return False

    def _round(self) -> None:
        """Let those in who wait, and have all say a token."""
        if self._waiting and len(self._turns) < BATCHES:
            if chosen := self._next():
                self._begin(chosen)
            self._let_go(chosen)
        for turn in self._turns:
            self._step(turn)
        self._turns = [turn for turn in self._turns if turn.live]

    def _next(self) -> list[Job]:
        """Return of those who wait the first, and all others that may be in a batch with it."""
        with self._lock:
            waiting = list(self._waiting)
        for job in waiting:
            job.give_up_if_cancelled()
        waiting = [job for job in waiting if not job.finished][:LOOKED_AT]
        chosen: list[Job] = []
        # Those of like length first, since rows are padded to the longest.
        for job in sorted(waiting, key=lambda job: abs(job.length - waiting[0].length)):
            if not chosen or self._engine.fit([*chosen, job]):
                chosen.append(job)
        return chosen

    def _let_go(self, chosen: Iterable[Job]) -> None:
        """Have those wait no more who are chosen or finished."""
        gone = set(chosen)
        with self._lock:
            self._waiting = [job for job in self._waiting if not (job in gone or job.finished)]

    def _fail_all(self, error: Exception) -> None:
        with self._lock:
            waiting, self._waiting = self._waiting, []
        turns, self._turns = self._turns, []
        _fail([*waiting, *(job for turn in turns for job in turn.live)], error)

    def _begin(self, jobs: list[Job]) -> None:
        """Read jobs as a batch, with those of others that are worth reading anew with them."""
        for turn in list(self._turns):
            again = sum(job.length for job in turn.live)
            fresh = sum(job.length for job in jobs)
            if again <= REREAD_SHARE * fresh and self._engine.fit([*jobs, *turn.live]):
                jobs = [*jobs, *turn.live]
                self._turns.remove(turn)
        if batch := self._batch(jobs):
            self._turns.append(_Turn(batch))

    def _step(self, turn: _Turn) -> None:
        for job in turn.live:
            job.give_up_if_cancelled()
        live = turn.live
        if not live:
            return
        if turn.wasted_s > self._token_s * sum(job.length for job in live):
            if batch := self._batch(live):
                turn.batch, turn.wasted_s = batch, 0.0
            return
        began = time.perf_counter()
        try:
            turn.batch.step()
        except Exception as error:
            _fail(live, error)
        finished = 1 - len(live) / len(turn.batch.rows)
        turn.wasted_s += finished * (time.perf_counter() - began)

    def _batch(self, jobs: Sequence[Job]) -> Batch | None:
        """Read jobs as a batch; where that fails, tell them."""
        for job in jobs:
            job.taken()
        began = time.perf_counter()
        try:
            batch = self._engine.read(jobs)
        except Exception as error:
            _fail(jobs, error)
            return None
        self._token_s = (time.perf_counter() - began) / sum(job.length for job in jobs)
        return batch


def _fail(jobs: Iterable[Job], error: Exception) -> None:
    for job in jobs:
        if not job.finished:
            job.fail(error)
