"""Share one model among all who ask: real batches, formed of what waits, between two tokens.

A batch of ONNX Runtime GenAI takes no further rows, and reads its prompts together. So who comes
later gets a batch of its own, and batches take turns, a token each; or those of a batch that has
just begun do so anew, with who came. Where the rows of a batch that are finished have cost enough,
those that are not begin anew without them.
"""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..generation.answer import Job
from ..generation.engine import Batch, Engine
from .costs import Costs
from .grouping import anew_s, cheaper_joined, padded, with_first

# So that who comes second need not wait for the first to finish; with more, each would be smaller
# and all of them slower. For one who has waited so long, there may be more all the same.
BATCHES, MOST_BATCHES, PATIENCE_S = 2, 4, 2.0

# Who comes while others are read comes all at once afterwards, each so soon after the one before.
ARRIVAL_S = 0.0002

# Of those who wait, so many are looked at for a batch: else each batch of a long queue would cost
# more than of a short one.
LOOKED_AT = 128


@dataclass
class _Turn:
    """A batch, and what was spent on rows of it that are finished, in seconds.

    fresh: whether it has taken no step; its first one costs nothing, since reading computed it.
    """

    batch: Batch
    wasted_s: float = 0.0
    fresh: bool = True

    @property
    def live(self) -> list[Job]:
        return [job for job in self.batch.rows if not job.finished]

    def begin(self, batch: Batch | None) -> None:
        """Go on with another batch; without one, all who were in it have been told."""
        if batch is not None:
            self.batch, self.wasted_s, self.fresh = batch, 0.0, True


class Scheduler:
    """The queue before a model, and the thread that runs the model while there is work."""

    def __init__(self, engine: Engine) -> None:
        """Answer jobs with an engine."""
        self._engine = engine
        self._waiting: list[Job] = []
        self._turns: list[_Turn] = []
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._costs = Costs()

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
        if self._waiting and len(self._turns) < self._most_batches():
            chosen = self._next()
            self._admit(chosen)
            self._let_go(chosen)
        for turn in self._turns:
            self._step(turn)
        self._turns = [turn for turn in self._turns if turn.live]

    def _admit(self, chosen: Sequence[Job]) -> None:
        """Begin a batch, or one of those that run anew with who comes."""
        if not chosen:
            return
        for turn in self._turns:
            if (live := turn.live) and cheaper_joined(chosen, live, self._engine.fit, self._costs):
                turn.begin(self._batch([*live, *chosen]))
                return
        if batch := self._batch(chosen):
            self._turns.append(_Turn(batch))

    def _most_batches(self) -> int:
        waited_s = time.perf_counter() - self._waiting[0].asked
        return MOST_BATCHES if waited_s > PATIENCE_S else BATCHES

    def _next(self) -> list[Job]:
        """Return of those who wait the first, and all others that may be in a batch with it."""
        with self._lock:
            waiting = list(self._waiting)
        for job in waiting:
            job.give_up_if_cancelled()
        waiting = [job for job in waiting if not job.finished][:LOOKED_AT]
        return with_first(waiting, self._engine.fit, self._costs) if waiting else []

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

    def _step(self, turn: _Turn) -> None:
        for job in turn.live:
            job.give_up_if_cancelled()
        live = turn.live
        if not live:
            return
        if turn.wasted_s and turn.wasted_s > anew_s(live, self._costs):
            turn.begin(self._batch(live))
            return
        rows = len(turn.batch.rows)
        began = time.perf_counter()
        try:
            turn.batch.step()
        except Exception as error:
            _fail(live, error)
        if turn.fresh:
            turn.fresh = False
            return
        self._costs.stepped(rows, time.perf_counter() - began)
        if len(live) < rows:
            turn.wasted_s += self._costs.step_s(rows) - self._costs.step_s(len(live))

    def _batch(self, jobs: Sequence[Job]) -> Batch | None:
        """Read the prompts of jobs as a batch; where that fails, tell them."""
        for job in jobs:
            job.taken()
        began = time.perf_counter()
        try:
            batch = self._engine.read(jobs)
        except Exception as error:
            _fail(jobs, error)
            return None
        self._costs.read(padded(jobs), time.perf_counter() - began)
        self._let_in()
        return batch

    def _let_in(self) -> None:
        """Let those submit who could not: the runtime keeps Python's lock while it reads."""
        waiting = -1
        while len(self._waiting) > waiting:
            waiting = len(self._waiting)
            time.sleep(ARRIVAL_S)


def _fail(jobs: Iterable[Job], error: Exception) -> None:
    for job in jobs:
        if not job.finished:
            job.fail(error)
