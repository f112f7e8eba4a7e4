"""What the benchmarks' command lines share."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import store


def parser(description: str | None) -> ArgumentParser:
    """Return a parser that shows a module's docstring as it is written."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


def add_work(arguments: ArgumentParser) -> None:
    """Add `--work`, the folder that models are made and kept in."""
    arguments.add_argument(
        "--work",
        type=Path,
        default=store.home(),
        help="models are made and kept here; by default in the store (%(default)s)",
    )


def use_store(folder: Path) -> None:
    """Let the store be `folder`, for this process and those it starts."""
    os.environ["SLMFLOW_HOME"] = str(folder.absolute())


def run(main: Callable[[], None]) -> None:
    """Call `main`, and exit with 1 or 2 where it raises UserError, with its message shown once."""
    try:
        main()
    except UserError as fault:
        if not fault.shown:
            messages.error(str(fault))
        sys.exit(fault.exit_code)
