"""Models on the hub that no exporter supports: refused before their weights are downloaded."""

import json
from pathlib import Path

import pytest

from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import MODEL, REVISION, FakeHub

FROM_HUB = ("model=hub", f"model.id={MODEL}", f"model.revision={REVISION}", "model.licence=MIT")


@pytest.mark.parametrize("step", [pytest.param("convert", marks=pytest.mark.long), "main"])
def test_unsupported_architecture_is_not_downloaded(
    run_python: RunPython, hub: FakeHub, tmp_path: Path, step: str
) -> None:
    config = {"model_type": "bloom", "architectures": ["BloomForCausalLM"], "eos_token_id": 1}
    hub.files["config.json"] = json.dumps(config).encode()

    process = run_python("-m", f"steps.{step}", *FROM_HUB, HF_ENDPOINT=hub.url)

    assert process.returncode == 1
    assert process.stderr.count("error:") == 1
    assert "does not support BloomForCausalLM (model type bloom)" in process.stderr
    fetched = [path for _, path, _ in hub.requests if "/resolve/" in path or "/cdn/" in path]
    assert fetched
    assert all(path.endswith("/config.json") for path in fetched)
    assert not (tmp_path / "store" / "weights").exists()


@pytest.mark.long
def test_supported_architecture_is_downloaded(run_python: RunPython, hub: FakeHub) -> None:
    config = {"model_type": "lfm2", "architectures": ["Lfm2ForCausalLM"], "eos_token_id": 1}
    hub.files["config.json"] = json.dumps(config).encode()

    process = run_python("-m", "steps.convert", *FROM_HUB, "exporter=builder", HF_ENDPOINT=hub.url)

    assert hub.ranges("model.safetensors")
    assert "error:" in process.stderr  # its weights are no model
    assert "does not support" not in process.stderr
