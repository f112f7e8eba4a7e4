from pathlib import Path

import pytest

from tests.batch.jobs import Place


@pytest.fixture
def place(tmp_path: Path, experiment: str, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    return Place(tmp_path, experiment)
