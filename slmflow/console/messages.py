"""Messages to the user, all on standard error.

Standard output stays free for what a program may read (`--cfg job`).
"""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from slmflow.console.redaction import redact

CONSOLE = Console(stderr=True, highlight=False)


def adapt_to_terminal() -> None:
    """Find out anew whether standard error is a terminal, after it became another file."""
    CONSOLE.__init__(stderr=True, highlight=False)  # type: ignore[misc]


def info(text: str) -> None:
    """Print one line about the progress of the work."""
    CONSOLE.print(escape(redact(text)), soft_wrap=True)


def step_status(step: str, status: str) -> None:
    """Print the status of a step, e.g. `convert  reused from run 1f2e`."""
    CONSOLE.print(f"[bold cyan]{escape(step):<16}[/] {escape(status)}", soft_wrap=True)


def warning(text: str) -> None:
    """Print a warning."""
    CONSOLE.print(f"[yellow]warning:[/] {escape(redact(text))}", soft_wrap=True)


def error(text: str) -> None:
    """Print why a step fails."""
    CONSOLE.print(f"[bold red]error:[/] {escape(redact(text))}", soft_wrap=True)


def traceback() -> None:
    """Print the traceback of the exception being handled."""
    with CONSOLE.capture() as printed:
        CONSOLE.print_exception(suppress=["mlflow", "hydra"])
    CONSOLE.file.write(redact(printed.get()))


def table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = ""
) -> None:
    """Print a table; the first column holds names, the others numbers."""
    printed = Table(title=escape(title), title_justify="left", caption_justify="left")
    printed.caption = escape(caption) or None
    for position, column in enumerate(columns):
        printed.add_column(escape(column), justify="right" if position else "left")
    for row in rows:
        printed.add_row(*(escape(cell) for cell in row))
    CONSOLE.print(printed)
