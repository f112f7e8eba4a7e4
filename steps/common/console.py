"""The one way to the screen: messages, progress bars and tables, all on standard error.

Standard output stays free for what a program may want to read (`--cfg job`).
"""

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager

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

_console = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print one line about what goes on."""
    _console.print(escape(text), soft_wrap=True)


def step_line(step: str, state: str) -> None:
    """Print what became of a step, e.g. `convert  reused from run 1f2e`."""
    _console.print(f"[bold cyan]{escape(step):<16}[/] {escape(state)}", soft_wrap=True)


def warn(text: str) -> None:
    """Print one line the user should not miss."""
    _console.print(f"[yellow]warning:[/] {escape(text)}", soft_wrap=True)


def error(text: str) -> None:
    """Print the one message that says why a step ends."""
    _console.print(f"[bold red]error:[/] {escape(text)}", soft_wrap=True)


def traceback() -> None:
    """Print the traceback of the exception being handled."""
    _console.print_exception(suppress=["mlflow", "hydra"])


def working(text: str) -> AbstractContextManager[object]:
    """Show a spinner and `text` while work of unknown length goes on."""
    return _console.status(escape(text))


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


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table; the first column is the row's name, the others are figures."""
    drawn = Table(title=escape(title), title_justify="left")
    for position, column in enumerate(columns):
        drawn.add_column(escape(column), justify="right" if position else "left")
    for row in rows:
        drawn.add_row(*(escape(cell) for cell in row))
    _console.print(drawn)
