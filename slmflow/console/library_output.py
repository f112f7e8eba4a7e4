"""Output of third-party libraries."""

import contextlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Suppress what libraries print, log and warn about; slmflow's own messages still show.

    Logged errors pass. For calls with output that the user can do nothing about.
    """
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(_DiscardedStderr(sys.stderr)),
    ):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


@contextlib.contextmanager
def preserve_logging() -> Iterator[None]:
    """Keep an import from configuring logging: `basicConfig` does nothing if root has a handler."""
    handler = logging.NullHandler()
    logging.root.addHandler(handler)
    try:
        yield
    finally:
        logging.root.removeHandler(handler)


class _DiscardedStderr(io.StringIO):
    """Discards what is printed, but rich still finds the real standard error behind it."""

    def __init__(self, stderr: TextIO) -> None:
        super().__init__()
        self.rich_proxied_file = getattr(stderr, "rich_proxied_file", stderr)
