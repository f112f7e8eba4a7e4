"""Command-line handling that the benchmarks share."""

import os
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path

from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.pipeline import store


def create_parser(description: str | None) -> ArgumentParser:
    """Return a parser whose help shows a module docstring as written."""
    return ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)


def at_least(minimum: int) -> Callable[[str], int]:
    """Return the type of an argument that is a number of at least `minimum`."""

    def number(text: str) -> int:
        if (value := int(text)) < minimum:
            raise ArgumentTypeError(f"must be at least {minimum}")
        return value

    return number


def add_rounds_and_output(parser: ArgumentParser, rounds: int) -> None:
    """Add `--rounds` with its default, and the required `--output`."""
    parser.add_argument(
        "--rounds", type=at_least(1), default=rounds, help="timed rounds (%(default)s)"
    )
    parser.add_argument("--output", type=_folder, required=True, help="folder for the results")


def parse_with_store(parser: ArgumentParser) -> Namespace:
    """Parse the command line with `--work`, and use its folder as the store, also in children."""
    parser.add_argument(
        "--work",
        type=_folder,
        default=store.home(),
        help="folder for the models, which are built once (default: the store, %(default)s)",
    )
    arguments = parser.parse_args()
    os.environ["SLMFLOW_HOME"] = str(arguments.work)
    return arguments


def run_main(main: Callable[[], None]) -> None:
    """Call `main`; on UserError show its message once and exit with its exit code."""
    try:
        main()
    except UserError as error:
        if not error.shown:
            messages.error(str(error))
        sys.exit(error.exit_code)


def _folder(path: str) -> Path:
    return Path(path).absolute()
