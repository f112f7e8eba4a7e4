"""The speed benchmark on a tiny model, and invalid arguments; no timing is checked."""

import json
import sys
from pathlib import Path

import pytest

from benchmarks import speed
from benchmarks.harness.engine_process import EngineProcess
from slmflow.errors import BadArguments, UserError


def _call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", "set by --work, and restored after the test")
    monkeypatch.setattr(sys, "argv", ["speed", *map(str, arguments)])
    speed.main()


@pytest.mark.long
def test_table_raw_values_and_plot_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.harness.engines.find_spec", lambda _: None)
    output = tmp_path / "out"

    _call(
        monkeypatch,
        *("--shape", "tiny", "--prompts", 8, 24, "--new-tokens", 4, "--rounds", 1),
        *("--engines", "slmflow", "builder", "llama_cpp"),
        *("--output", output, "--work", tmp_path / "work"),
    )

    measured = json.loads((output / "tiny.json").read_text())
    assert [(s["engine"], s["prompt_tokens"]) for s in measured["series"]] == [
        ("slmflow", 8), ("builder", 8), ("slmflow", 24), ("builder", 24),
    ]  # fmt: skip
    for series in measured["series"]:
        assert len(series["prefill_s"]) == len(series["decode_s"]) == 1
        assert all(figure["median"] > 0 for figure in series["figures"].values())
    table = (output / "tiny.md").read_text()
    assert "| figure | slmflow | builder |" in table
    assert "llama_cpp is left out: llama_cpp and gguf not installed" in table
    assert (output / "tiny.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--prompts", 5000), "are up to 5065 tokens, more than the model's context of 4096"),
        (("--rounds", 0), "must be at least 1"),
    ],
)
def test_invalid_plan_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...], message: str
) -> None:
    with pytest.raises(BadArguments, match=message):
        _call(monkeypatch, *arguments, "--output", tmp_path)


def test_failed_engine_reports_its_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"slmflow could not be measured: .*genai_config"):
        EngineProcess("slmflow", tmp_path, 16).__enter__()
