"""The generation settings in a folder that the GenAI runtime loads."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from slmflow.conversion import generation_config
from tests.fixtures.variants import edit_json


def write(
    tmp_path: Path, weights: Path, onnx: Path, **settings: Any
) -> tuple[Path, dict[str, Any]]:
    """Write the settings of a copy of the bundled model; return its folder and what is ignored."""
    given, folder = tmp_path / "given", tmp_path / "converted"
    shutil.copytree(weights, given)
    shutil.copytree(onnx, folder)
    edit_json(given / "config.json", no_repeat_ngram_size=9, num_beams=9)
    edit_json(given / "generation_config.json", **settings)
    return folder, generation_config.write(given, folder)


def test_search_options_are_those_of_generation_config(
    tmp_path: Path, weights: Path, onnx: Path
) -> None:
    settings = {"repetition_penalty": 1.5, "no_repeat_ngram_size": 4, "top_k": 7, "do_sample": True}
    folder, ignored = write(tmp_path, weights, onnx, **settings, suppress_tokens=[3])
    config = json.loads((folder / "genai_config.json").read_text())
    assert config["search"].items() >= {**settings, "num_beams": 1, "temperature": 1.0}.items()
    assert config["model"]["eos_token_id"] == [1013, 1014, 1020]
    kept = json.loads((folder / "generation_config.json").read_text())
    assert kept["suppress_tokens"] == [3]
    assert ignored == {}


def test_config_settings_do_not_reach_the_runtime(
    tmp_path: Path, weights: Path, onnx: Path
) -> None:
    folder, _ = write(tmp_path, weights, onnx)
    search = json.loads((folder / "genai_config.json").read_text())["search"]
    defaults = {"no_repeat_ngram_size": 0, "num_beams": 1, "repetition_penalty": 1.0, "top_k": 50}
    assert search.items() >= defaults.items()


def test_settings_that_one_flavor_lacks_are_named_once(
    tmp_path: Path, weights: Path, onnx: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"num_beams": 3, "guidance_scale": 1.5}
    _, ignored = write(tmp_path, weights, onnx, **settings)
    assert ignored == settings
    warning = " ".join(capsys.readouterr().err.split())
    assert warning.count("warning:") == 1
    assert "num_beams=3, guidance_scale=1.5 hold in the transformers flavor only" in warning
