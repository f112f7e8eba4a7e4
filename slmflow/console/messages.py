"""The one way to the screen: messages, progress bars and tables, all on standard error.

Standard output stays free for what a program may want to read (`--cfg job`).
"""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TextIO

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table

from slmflow.console.redaction import redacted

_console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print one line about what goes on."""
    _console.print(escape(redacted(text)), soft_wrap=True)


def step_line(step: str, state: str) -> None:
    """Print what became of a step, e.g. `convert  reused from run 1f2e`."""
    _console.print(f"[bold cyan]{escape(step):<16}[/] {escape(state)}", soft_wrap=True)


def warn(text: str) -> None:
    """Print one line the user should not miss."""
    _console.print(f"[yellow]warning:[/] {escape(redacted(text))}", soft_wrap=True)


def error(text: str) -> None:
    """Print the one message that says why a step ends."""
    _console.print(f"[bold red]error:[/] {escape(redacted(text))}", soft_wrap=True)


def traceback() -> None:
    """Print the traceback of the exception being handled."""
    with _console.capture() as told:
        _console.print_exception(suppress=["mlflow", "hydra"])
    _console.file.write(redacted(told.get()))


def working(text: str) -> AbstractContextManager[object]:
    """Show a spinner and `text` while work of unknown length goes on."""
    return _console.status(escape(text))


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what libraries print, log and warn of; what this module shows still shows.

    Errors that they log pass. For calls whose chatter the user can do nothing about.
    """
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(_Aside(sys.stderr)),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def logging_untouched() -> Iterator[None]:
    """Keep an import from turning on every library's log: `basicConfig` spares a set-up root."""
    guard = logging.NullHandler()
    logging.root.addHandler(guard)
    try:
        yield
    finally:
        logging.root.removeHandler(guard)


class _Aside(io.StringIO):
    """A standard error that swallows what is printed; rich looks behind it, at the real one."""

    def __init__(self, real: TextIO) -> None:
        super().__init__()
        self.rich_proxied_file = getattr(real, "rich_proxied_file", real)


def counting() -> Progress:
    """Return a progress bar for things that are counted: rows, prompts, layers."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_console,
    )


def transferring() -> Progress:
    """Return a progress bar for bytes: downloads and copies."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=_console,
    )


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = ""
) -> None:
    """Print a table; the first column is the row's name, the others are figures."""
    drawn = Table(title=escape(title), title_justify="left", caption_justify="left")
    drawn.caption = escape(caption) or None
    for position, column in enumerate(columns):
        drawn.add_column(escape(column), justify="right" if position else "left")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    _console.print(drawn)
