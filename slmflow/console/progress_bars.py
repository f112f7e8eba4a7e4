"""Progress bars and a spinner."""

from contextlib import AbstractContextManager

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

from slmflow.console.messages import CONSOLE


def spinner(text: str) -> AbstractContextManager[object]:
    """Show a spinner during work of unknown length."""
    return CONSOLE.status(escape(text))


def item_bar() -> Progress:
    """Return a progress bar for items: rows, prompts, layers."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=CONSOLE,
    )


def byte_bar() -> Progress:
    """Return a progress bar for downloads and copies."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=CONSOLE,
    )
