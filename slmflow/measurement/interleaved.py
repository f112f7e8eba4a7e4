"""Measure models side by side, each in its own process: first the timings, then the answers.

A sample of rows is timed, one request at a time, in alternating turns of a few rows. With its own
process, memory and load time are the model's alone. The speed of a shared machine changes within
seconds; alternating turns spread such changes over all models. The order changes with every turn,
so that each model takes every position and follows every other.

Then each model answers the other rows, and scores all, in batches. A timed answer is the row's
answer. Some timed rows are answered again in a batch, to check that a batch changes no answer.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Self

from rich.progress import Progress, TaskID

from slmflow.config.schema.config import Config
from slmflow.console import messages, progress_bars
from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.measurement import timed_rows, unanswerable_rows, worker_process
from slmflow.measurement.earlier_answers import EarlierAnswers
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.measurement.records import NO_SCORE, Answer, BatchCheck, Measurement, Timing
from slmflow.measurement.stored_rows import StoredRows
from slmflow.measurement.timing_journal import TimingJournal
from slmflow.measurement.worker_process import WorkerProcess
from slmflow.pipeline import freshness, keys
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.step import Step

_ROWS_PER_TURN = 4
_WARM_UP_ROWS = 3
_CHECKED_ROWS = 8
_MAX_DIFFERENT = 2  # of the checked rows: rounding may change the choice between two equal tokens

ProgressCallback = Callable[[MeasuredModel, Mapping[int, Answer], Collection[Timing]], None]
"""Receives a model, its answers by row and its timings so far; an exception ends measuring."""


@dataclass(frozen=True)
class Plan:
    """What to measure besides the models and rows.

    seed: the sampling seed of each answer; timed_rows: how many rows are timed; unanswerable: why
    rows cannot be answered, by number: they are not sent; key: of the measurement, under which its
    timings are kept in the store; earlier: answers that the store may lack; times_anew: whether
    timings in the store do not count; answers_anew: whether a model's earlier answers do not.
    """

    seed: int | None = None
    timed_rows: int = 32
    unanswerable: Mapping[int, str] = field(default_factory=dict)
    key: str = ""
    earlier: EarlierAnswers = field(default_factory=EarlierAnswers)
    times_anew: bool = False
    answers_anew: Callable[[MeasuredModel], bool] = lambda model: False

    @classmethod
    def of_step(
        cls, step: Step, rows: Sequence[Row], key: str, configs: Sequence[Config] = ()
    ) -> Self:
        """Return the plan of a step's config; name the rows that cannot be answered in a warning.

        configs: of all points that are measured together on these rows, if not only the step's.
        Raises UserError if no row can be answered.
        """
        is_named = freshness.is_named(Measurements, step.config)
        inputs = Measurements.inputs(step.config)
        flavors = [kind.flavor for kind in inputs if step.is_made_anew(kind)]
        answers_keys = [keys.answers_key(config) for config in configs or (step.config,)]
        return cls(
            seed=step.config.evaluation.seed,
            timed_rows=step.config.measurement.timed_rows,
            unanswerable=unanswerable_rows.find(step, rows),
            key=key,
            earlier=EarlierAnswers(answers_keys, step.run.info.experiment_id),
            times_anew=step.is_made_anew(Measurements),
            answers_anew=lambda model: is_named or model.flavor in flavors,
        )


def measure(
    models: Sequence[MeasuredModel],
    rows: Sequence[Row],
    plan: Plan = Plan(),
    on_progress: ProgressCallback = lambda model, answers, timings: None,
    started: Sequence[WorkerProcess] = (),
) -> tuple[Measurement, ...]:
    """Measure each model on all rows, with progress bars; reuse what the store has.

    The worker processes start together, unless they are `started` already, and load their models
    one after another; only one computes at a time. Rows that a model rejects are named in a warning
    and kept with their errors. Raises UserError with the model and the last line of its error if a
    process fails, and if a model rejects all rows.
    """
    timed = timed_rows.select(rows, plan.timed_rows, frozenset(plan.unanswerable))
    if plan.times_anew:
        TimingJournal(plan.key).remove()
    journal = TimingJournal(plan.key, models)
    states = [_ModelState(model, rows, plan, timed, journal, on_progress) for model in models]
    must_time = any(state.usage is None for state in states) if timed else False
    with progress_bars.item_bar() as progress, ExitStack() as stack:
        for state in states:
            state.progress = progress
        running = [state for state in states if must_time or state.is_incomplete]
        others = worker_process.start(len(running) - len(started))
        workers = [*started, *stack.enter_context(others)]
        for state, worker in zip(running, workers, strict=False):
            worker.assign(state.model, rows, plan.seed, state.answerable[:_WARM_UP_ROWS])
            state.worker = worker
        for state in running:
            state.wait_until_ready()
        for state in running:
            state.load()
        if must_time:
            _time_in_turns(running, timed)
        for state in running:
            state.answer_and_score()
    measurements = tuple(state.measurement() for state in states)
    for measurement in measurements:
        _report_rejected(measurement, rows, plan.unanswerable)
    return measurements


def _time_in_turns(states: Sequence["_ModelState"], timed: Sequence[int]) -> None:
    for turn, first in enumerate(range(0, len(timed), _ROWS_PER_TURN)):
        for state in _turn_order(states, turn):
            state.time(timed[first : first + _ROWS_PER_TURN])
    for state in states:
        state.record_usage()


def _turn_order(states: Sequence["_ModelState"], turn: int) -> list["_ModelState"]:
    """Return the order of a turn: rotated by one each turn, reversed in every other round."""
    round_, first = divmod(turn, len(states))
    rotated = [*states[first:], *states[:first]]
    return rotated[::-1] if round_ % 2 else rotated


def _report_rejected(
    measurement: Measurement, rows: Sequence[Row], unanswerable: Mapping[int, str]
) -> None:
    """Warn of rows that the model rejected. Raises UserError if none is answered."""
    errors = {number: a.error for number, a in enumerate(measurement.answers) if a.error}
    model = measurement.model
    if len(errors) == len(rows):
        raise UserError(
            f"the {model.flavor} model {model.model_uri} rejected all rows: "
            f"{rows[0].location or 'row 1'}: {errors[0]}"
        )
    rejected = {number: error for number, error in errors.items() if number not in unanswerable}
    if rejected:
        number, error = next(iter(rejected.items()))
        messages.warning(
            f"the {model.flavor} model rejected {len(rejected)} of {len(rows)} rows, which count "
            f"as not answered: {rows[number].location or f'row {number + 1}'}: {error}"
        )


class _ModelState:
    """One model: its process, if one is needed, and what is measured so far."""

    worker: WorkerProcess | None = None
    progress: Progress

    def __init__(
        self,
        model: MeasuredModel,
        rows: Sequence[Row],
        plan: Plan,
        timed: Sequence[int],
        journal: TimingJournal,
        on_progress: ProgressCallback,
    ) -> None:
        self.model = model
        self._rows, self._plan, self._timed, self._journal = rows, plan, timed, journal
        self._on_progress = on_progress
        self._stored = StoredRows(model, rows, plan.seed)
        if plan.answers_anew(model):
            self._stored.forget()
        elif self.is_incomplete and (earlier := plan.earlier.of(model, len(rows))):
            self._stored.add(earlier, self.answerable)
        self._timings = journal.timings(model)
        self._timed_answers: dict[int, Answer] = {}
        self._batch_check: BatchCheck | None = None
        self._tasks: dict[str, TaskID] = {}
        self._load_s = 0.0

    @property
    def usage(self) -> tuple[float, int | None] | None:
        """Load time and peak memory, if all timings are known."""
        return self._journal.usage(self.model)

    @property
    def is_incomplete(self) -> bool:
        """Whether answers or scores are missing."""
        return bool(self._missing_answers or self._missing_scores)

    @property
    def _missing_answers(self) -> list[int]:
        return [number for number in self.answerable if number not in self._stored.answers]

    @property
    def _missing_scores(self) -> list[int]:
        if not self._stored.can_score:
            return []
        answers = self._stored.answers
        return [
            number
            for number in self.answerable
            if number not in self._stored.scores
            and not (number in answers and answers[number].error)
        ]

    @property
    def answerable(self) -> list[int]:
        """The numbers of the rows that are sent."""
        return [n for n in range(len(self._rows)) if n not in self._plan.unanswerable]

    def wait_until_ready(self) -> None:
        """Wait until the process has imported the libraries."""
        self._running().wait_until_ready()

    def load(self) -> None:
        """Load the model, and wait until it is warm."""
        task = self.progress.add_task(f"{self.model.flavor} loads", total=None)
        self._load_s = self._running().load()
        self.progress.update(task, visible=False)

    def time(self, numbers: Sequence[int]) -> None:
        """Time those rows of a turn that have no timing yet."""
        missing = [number for number in numbers if number not in self._timings]
        for number, answer, timing in self._running().time(missing):
            self._timed_answers[number] = answer
            if number not in self._stored.answers:
                self._stored.put_answer(number, answer)
            if timing:
                self._journal.put_timing(self.model, timing)
            self._advance("timed", len(self._timed), kept=len(self._timings))
        self._report_progress()

    def record_usage(self) -> None:
        """Store load time and peak memory, which are those of requests one at a time."""
        self._journal.put_usage(self.model, self._load_s, self._running().peak_rss_bytes())

    def answer_and_score(self) -> None:
        """Answer and score the missing rows, and end the process."""
        total = len(self.answerable)
        if missing := self._missing_answers:
            alone = not self._check_batches()
            for done, (number, answer) in enumerate(self._running().answer(missing, alone=alone)):
                self._stored.put_answer(number, answer)
                self._advance("answers", total, kept=total - len(missing) + done + 1)
                if done % _ROWS_PER_TURN == 0:
                    self._report_progress()
            self._report_progress()
        scored = False
        missing = self._missing_scores
        for done, (number, score) in enumerate(self._running().score(missing)):
            self._stored.put_score(number, score)
            self._advance("likelihoods", total, kept=total - len(missing) + done + 1)
            scored = True
        if missing and not scored:
            self._stored.put_cannot_score()
        self._running().end()

    def measurement(self) -> Measurement:
        """Return the complete measurement."""
        load_s, peak_rss_bytes = self.usage or (None, None)
        numbers = range(len(self._rows))
        scores = [self._stored.scores.get(number, NO_SCORE) for number in numbers]
        can_score = self._stored.can_score and bool(self._stored.scores)
        return Measurement(
            model=self.model,
            load_s=load_s,
            peak_rss_bytes=peak_rss_bytes,
            answers=tuple(self._answer(number) for number in range(len(self._rows))),
            likelihoods=tuple(each for each, _ in scores) if can_score else None,
            choice_logprobs=tuple(each for _, each in scores) if can_score else None,
            timings=tuple(self._timings[n] for n in self._timed if n in self._timings),
            batch_check=self._batch_check,
        )

    def _answer(self, number: int) -> Answer:
        if reason := self._plan.unanswerable.get(number):
            return Answer("", None, None, error=reason)
        return self._stored.answers[number]

    def _check_batches(self) -> bool:
        """Answer some timed rows again in a batch; return whether batches can be trusted."""
        step = -(-len(self._timed_answers) // _CHECKED_ROWS) or 1
        alone = dict(list(self._timed_answers.items())[::step])
        if not alone or self._plan.seed is None:  # without a seed, samples always differ
            return True
        different = sorted(n for n, a in self._running().answer(list(alone)) if a != alone[n])
        self._batch_check = BatchCheck(len(alone), tuple(different))
        if len(different) <= _MAX_DIFFERENT:
            return True
        messages.warning(
            f"the {self.model.flavor} model answers {len(different)} of {len(alone)} rows "
            "otherwise in a batch than alone, so it answers all rows one at a time, which is slower"
        )
        return False

    def _report_progress(self) -> None:
        self._on_progress(self.model, self._stored.answers, list(self._timings.values()))

    def _running(self) -> WorkerProcess:
        if self.worker is None:
            raise ValueError(f"no process measures {self.model.model_uri}")
        return self.worker

    def _advance(self, stage: str, total: int, kept: int) -> None:
        if stage not in self._tasks:
            name = f"{self.model.flavor} {stage}"
            self._tasks[stage] = self.progress.add_task(name, total=total)
        self.progress.update(self._tasks[stage], completed=kept)
