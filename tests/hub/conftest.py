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
        environment.setdefault("HF_ENDPOINT", hub.url)
        return run_python("-m", "tests.hub.download_model", model_id, revision, key, **environment)

    return download
