"""Downloads in separate processes."""

import subprocess
from collections.abc import Callable

import pytest

from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import MODEL, REVISION, FakeHub

Download = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def download(run_python: RunPython, hub: FakeHub) -> Download:
    """Download from the hub to the store."""

    def download(
        model_id: str = MODEL, revision: str = REVISION, key: str = "key", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        defaults = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_TELEMETRY": "1"}  # as `steps` does
        arguments = ("-m", "tests.hub.download_model", model_id, revision, key)
        return run_python(*arguments, **(defaults | environment))

    return download
