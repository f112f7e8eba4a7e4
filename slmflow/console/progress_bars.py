"""Progress bars and a spinner; where there is no terminal, a line every 30 seconds instead."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from slmflow.console.messages import CONSOLE

LINE_INTERVAL_S = 30.0
"""The seconds between two lines in a pipe or a file."""


@contextmanager
def spinner(text: str) -> Iterator[None]:
    """Show a spinner during work of unknown length."""
    started = time.monotonic()
    line = _LinePrinter(CONSOLE, lambda: f"{text}: {_elapsed(time.monotonic() - started)}")
    with CONSOLE.status(escape(text)), line:
        yield


def item_bar() -> Progress:
    """Return a progress bar for items: rows, prompts, layers."""
    return _Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        format_amount=lambda amount: f"{amount:,.0f}",
    )


def byte_bar() -> Progress:
    """Return a progress bar for downloads and copies."""
    return _Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        format_amount=lambda amount: decimal(int(amount)),
    )


class _Bar(Progress):
    """A progress bar that prints lines where it cannot be shown.

    get_time: the clock, in seconds.
    """

    def __init__(
        self,
        *columns: ProgressColumn,
        format_amount: Callable[[float], str],
        get_time: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(*columns, console=CONSOLE, get_time=get_time)
        self._format_amount = format_amount
        self._first_updates: dict[TaskID, tuple[float, float]] = {}
        self._lines = _LinePrinter(CONSOLE, self.line)

    def start(self) -> None:
        super().start()
        self._lines.__enter__()

    def stop(self) -> None:
        self._lines.__exit__()
        super().stop()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        super().update(task_id, **changes)
        self._note_update(task_id)

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._note_update(task_id)

    def line(self) -> str:
        """Return where the unfinished tasks are, in one line; empty if there is none."""
        unfinished = (task for task in self.tasks if task.visible and not task.finished)
        return "; ".join(map(self._describe, unfinished))

    def _note_update(self, task_id: TaskID) -> None:
        """Remember the first update: what it reports may have been done before."""
        done = next(task.completed for task in self.tasks if task.id == task_id)
        self._first_updates.setdefault(task_id, (self.get_time(), done))

    def _describe(self, task: Task) -> str:
        elapsed = _elapsed(task.elapsed or 0)
        if task.total is None:
            return f"{task.description}: {elapsed}"
        done, total = map(self._format_amount, (task.completed, task.total))
        since, before = self._first_updates.get(task.id, (0.0, task.completed))
        rest = ""
        if task.completed > before:
            pace = (self.get_time() - since) / (task.completed - before)
            rest = f", about {_format_time(pace * (task.total - task.completed))} left"
        return f"{task.description}: {done} of {total}, {elapsed}{rest}"


class _LinePrinter:
    """Prints a line at intervals while it is entered, unless the console is a terminal."""

    def __init__(self, console: Console, line: Callable[[], str]) -> None:
        self._console, self._line = console, line
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> None:
        if not (self._console.is_interactive or self._console.is_jupyter or self._thread):
            self._thread = threading.Thread(target=self._print_lines, daemon=True)
            self._thread.start()

    def __exit__(self, *_: object) -> None:
        if self._thread:
            self._ended.set()
            self._thread.join()

    def _print_lines(self) -> None:
        while not self._ended.wait(LINE_INTERVAL_S):
            if line := self._line():
                self._console.print(escape(line), soft_wrap=True)


def _elapsed(seconds: float) -> str:
    return f"{_format_time(seconds)} elapsed"


def _format_time(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
