"""Downloads that are interrupted or killed."""

import signal
from pathlib import Path

import pytest

from tests.fixtures.hub import StartPython
from tests.fixtures.hub_server import MODEL, REVISION, FakeHub
from tests.fixtures.waiting import wait_until
from tests.hub.conftest import Download

WEIGHTS = "model.safetensors"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_next_download_resumes(
    start_python: StartPython, download: Download, hub: FakeHub, store_folder: Path, number: int
) -> None:
    hub.stalls = {WEIGHTS}
    partial_sizes: list[int] = []

    def is_partial() -> bool:
        files = list((store_folder / "downloads").rglob(WEIGHTS))
        partial_sizes[:] = [file.stat().st_size for file in files]
        return any(partial_sizes)

    module = ("-m", "tests.hub.download_model", MODEL, REVISION, "key")
    with start_python(*module, HF_ENDPOINT=hub.url) as process:
        wait_until(is_partial)
        process.send_signal(number)
        assert process.wait(30) != 0
    assert download().returncode == 0
    assert hub.ranges(WEIGHTS) == [None, f"bytes={partial_sizes[0]}-"]
    stored = store_folder / "weights" / "key" / WEIGHTS
    assert stored.read_bytes() == hub.files[WEIGHTS]
