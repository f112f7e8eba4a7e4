from pathlib import Path

import pytest

from tests.batch.workspace import BatchWorkspace


@pytest.fixture
def workspace(tmp_path: Path, experiment: str, monkeypatch: pytest.MonkeyPatch) -> BatchWorkspace:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    return BatchWorkspace(tmp_path, experiment)
