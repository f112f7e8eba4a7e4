"""Tracking stores, registered models and the messages of steps that run in this process."""

from collections.abc import Callable

import pytest

from tests.registry.conftest import model, module_tracking

ReadErrors = Callable[[], str]


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> ReadErrors:
    """Return what was printed to standard error since the last call, in one line."""
    return lambda: " ".join(capsys.readouterr().err.split())
