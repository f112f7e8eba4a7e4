"""The quantization benchmark on few questions, with the project's own steps."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import quantization
from benchmarks.reports.quantization_report import BASE, OPTIONS, Option
from slmflow.config import compose
from slmflow.errors import UserError
from slmflow.pipeline import keys
from slmflow.pipeline.results import OnnxModel


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_composes(option: Option) -> None:
    assert compose.load(option.overrides).target.name == option.target


def test_options_are_distinct() -> None:
    unique = {keys.key_of(OnnxModel, compose.load(option.overrides)) for option in OPTIONS}

    assert len(unique) == len(OPTIONS)


@pytest.mark.long
def test_option_is_converted_evaluated_and_timed(
    run_benchmark: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = ("--options", BASE.name, "--limit", 3, "--rounds", 1)

    output = run_benchmark("quantization", *arguments, "--work", tmp_path / "work")

    page = (output / "quantization.md").read_text()
    (row,) = json.loads((output / "quantization.json").read_text())["options"]
    assert f"| `{BASE.name}` |" in page
    assert "on 3 questions" in page
    assert 1 < row["onnx_size_mb"] < 3
    assert row["metrics"]["exact_match"] == 1
    assert row["timings"]["decode_s"][0] > 0


def test_failed_run_ends_the_benchmark(
    call_main: Callable[..., None], tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda line, env: 1)

    with pytest.raises(UserError, match=r"-m steps.log_genai failed"):
        call_main(quantization, "--output", tmp_path / "out", "--work", tmp_path / "work")
