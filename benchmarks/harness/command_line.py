"""Command-line handling that the benchmarks share."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import store


def create_parser(description: str | None) -> ArgumentParser:
    """Return a parser whose help shows a module docstring as written."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


def add_work_option(parser: ArgumentParser) -> None:
    """Add `--work`, the folder that holds the models."""
    parser.add_argument(
        "--work",
        type=Path,
        default=store.home(),
        help="folder for the models, which are built once (default: the store, %(default)s)",
    )


def use_store(folder: Path) -> None:
    """Use `folder` as the store, in this process and its children."""
    os.environ["SLMFLOW_HOME"] = str(folder.absolute())


def run_main(main: Callable[[], None]) -> None:
    """Call `main`; on UserError show its message once and exit with its exit code."""
    try:
        main()
    except UserError as error:
        if not error.shown:
            messages.error(str(error))
        sys.exit(error.exit_code)
