"""The quantization benchmark on few questions, with the project's own steps."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import quantization
from benchmarks.harness import child_process
from benchmarks.reports.quantization_report import BASE, OPTIONS, Option
from slmflow.config import compose
from slmflow.errors import BadArguments, UserError
from slmflow.pipeline import keys
from slmflow.pipeline.results import OnnxModel
from slmflow.system.child_processes import environment


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_composes(option: Option) -> None:
    assert compose.load(option.overrides).target.name == option.target


def test_options_are_distinct() -> None:
    unique = {keys.key_of(OnnxModel, compose.load(option.overrides)) for option in OPTIONS}

    assert len(unique) == len(OPTIONS)


@pytest.mark.long
def test_option_is_converted_evaluated_and_timed(tmp_path: Path) -> None:
    command = child_process.module_command(
        *("quantization", "--options", BASE.name, "--limit", 3, "--rounds", 1),
        *("--output", tmp_path / "out", "--work", tmp_path / "work"),
    )

    process = subprocess.run(command, env=environment(), capture_output=True, text=True)

    assert process.returncode == 0, process.stderr
    page = (tmp_path / "out" / "quantization.md").read_text()
    (row,) = json.loads((tmp_path / "out" / "quantization.json").read_text())["options"]
    assert f"| `{BASE.name}` |" in page
    assert "on 3 questions" in page
    assert str(tmp_path) not in page
    assert 1 < row["onnx_size_mb"] < 3
    assert row["metrics"]["exact_match"] == 1
    assert row["timings"]["decode_s"][0] > 0


def test_failed_run_ends_the_benchmark(
    tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda line, env: 1)

    with pytest.raises(UserError, match=r"-m steps.log_genai failed"):
        _call(monkeypatch, tmp_path)


def test_zero_rounds_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadArguments, match="--rounds 0"):
        _call(monkeypatch, tmp_path, "--rounds", 0)


def _call(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", "set by --work, and restored after the test")
    folders = ("--output", folder / "out", "--work", folder / "work")
    monkeypatch.setattr(sys, "argv", ["quantization", *map(str, (*arguments, *folders))])
    quantization.main()
