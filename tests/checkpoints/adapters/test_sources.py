"""Adapters from folders and the hub: what is copied, where it lies, what is rejected."""

import shutil
from pathlib import Path

import mlflow
import pytest

from slmflow.pipeline import runs
from slmflow.pipeline.results import Weights
from slmflow.pipeline.step_runner import run
from steps.fetch import fetch
from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import MODEL, REVISION, FakeHub

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


@pytest.fixture
def adapter(random_adapter: Path, tmp_path: Path) -> Path:
    return shutil.copytree(random_adapter, tmp_path / "adapter")


def _fetch(*arguments: str) -> Weights:
    assert run("fetch", fetch, arguments) == 0
    return runs.load_result(Weights, mlflow.last_active_run().info.run_id)


def _failure(capsys: pytest.CaptureFixture[str], adapter: Path) -> str:
    assert run("fetch", fetch, [f"model.adapter={adapter}"]) == 1
    return " ".join(capsys.readouterr().err.split())


def test_base_model_lies_in_the_store_once(tracking: str, adapter: Path) -> None:
    (adapter / "optimizer.pt").write_bytes(b"\x80\x04.")
    other = shutil.copytree(adapter, adapter.with_name("other"))
    (other / "README.md").write_text("# Another\n")
    plain = _fetch()
    merged = _fetch(f"model.adapter={adapter}")
    separate = _fetch(
        "model.adapter_mode=separate",
        f"model.adapters.one={adapter}",
        f"model.adapters.two={other}",
    )
    assert plain.folder == merged.folder == separate.folder
    assert plain.adapter is None
    assert merged.adapter_folder is not None
    assert separate.adapter_folder is not None
    files = {file.name for file in merged.adapter_folder.iterdir()}
    assert {CONFIG, WEIGHTS} <= files
    assert "optimizer.pt" not in files
    assert (separate.adapter_folder / "two" / "README.md").read_text() == "# Another\n"
    # A result is reused only while its adapter is intact.
    (merged.adapter_folder / CONFIG).write_text("{}")
    merged_again = _fetch(f"model.adapter={adapter}")
    assert merged_again == merged
    assert (merged.adapter_folder / CONFIG).read_text() == (adapter / CONFIG).read_text()


def test_adapter_of_the_hub_is_downloaded(
    run_python: RunPython, hub: FakeHub, adapter: Path, store_folder: Path
) -> None:
    hub.files = {
        **{file.name: file.read_bytes() for file in adapter.iterdir()},
        "adapter_model.bin": b"\x80\x04.",
        "tokenizer.json": b"{}",
    }
    source = (f"model.adapter={MODEL}", f"model.adapter_revision={REVISION}")
    process = run_python("-m", "steps.fetch", *source, HF_ENDPOINT=hub.url)
    assert process.returncode == 0, process.stderr
    [folder] = (store_folder / "adapters").iterdir()
    assert (folder / WEIGHTS).read_bytes() == (adapter / WEIGHTS).read_bytes()
    assert not {"adapter_model.bin", "tokenizer.json"} & {file.name for file in folder.iterdir()}
    assert f"the licence of model.adapter='{MODEL}' is not checked" in process.stderr


def test_pickled_matrices_are_rejected(
    tracking: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / WEIGHTS).rename(adapter / "adapter_model.bin")
    assert "a pickle (adapter_model.bin), which can run code" in _failure(capsys, adapter)


def test_whole_model_is_no_adapter(
    tracking: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (adapter / CONFIG).unlink()
    assert "has no adapter_config.json: give an adapter" in _failure(capsys, adapter)


def test_link_out_of_the_folder_is_rejected(
    tracking: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outside = (adapter / WEIGHTS).rename(adapter.parent / "outside")
    (adapter / WEIGHTS).symlink_to(outside)
    assert "is not a file in this folder" in _failure(capsys, adapter)


def test_adapter_of_another_model_is_rejected_by_fetch(
    tracking: str, adapter: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(adapter / WEIGHTS)
    renamed = {name.replace(".layers.", ".blocks."): each for name, each in tensors.items()}
    save_file(renamed, adapter / WEIGHTS)
    failure = _failure(capsys, adapter)
    assert "the base model has no module model.blocks.0.mlp.down_proj" in failure
    assert "Choose the base model that the adapter was trained on" in failure
