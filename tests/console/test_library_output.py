"""What shows while libraries are silenced."""

import logging
import sys
import warnings

import pytest

from slmflow.console import library_output, messages


def test_only_library_output_is_silenced(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with library_output.silence():
        print("a library prints")
        print("a library prints an error", file=sys.stderr)
        warnings.warn("a library warns", stacklevel=1)
        logging.getLogger("library").warning("a library logs")
        logging.getLogger("library").error("a library fails")
        messages.info("slmflow works")

    output, errors = capsys.readouterr()
    assert (output, errors) == ("", "slmflow works\n")
    assert caplog.messages == ["a library fails"]


def test_import_cannot_configure_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.root, "handlers", [])
    level = logging.root.level
    with library_output.preserve_logging():
        logging.basicConfig(level=logging.DEBUG)
    assert (logging.root.handlers, logging.root.level) == ([], level)
