"""The speed benchmark on a tiny model, and invalid arguments; no timing is checked."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import speed
from benchmarks.harness.engine_process import EngineModel, EngineProcess
from slmflow.errors import BadArguments, UserError


@pytest.mark.long
def test_table_raw_values_and_plot_are_written(
    call_main: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.harness.engines.find_spec", lambda _: None)
    output = tmp_path / "out"

    call_main(
        speed,
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


def test_prompt_longer_than_the_context_is_rejected(
    call_main: Callable[..., None], tmp_path: Path
) -> None:
    with pytest.raises(BadArguments, match="up to 5065 tokens, more than the model's context of 4"):
        call_main(speed, "--prompts", 5000, "--output", tmp_path)


def test_failed_engine_reports_its_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"slmflow could not be measured: .*genai_config"):
        EngineProcess("slmflow", EngineModel("slmflow", tmp_path), 16).__enter__()
