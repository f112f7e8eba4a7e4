"""The quantization benchmark on runs that are made up: what it launches, reads and writes."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import mlflow
import pytest

from benchmarks import quantization, rounds
from benchmarks.quantization_report import OPTIONS, Option
from benchmarks.rounds import Plan
from benchmarks.series import Series
from steps.common import config, results, runs, store
from steps.common.errors import BadArguments, UserError
from steps.common.results import Result
from steps.convert.result import OnnxModel
from steps.evaluate.result import Evaluation, FlavorFigures


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_every_option_composes(option: Option) -> None:
    assert config.load(option.overrides).target.name == option.target


def test_no_option_stands_twice() -> None:
    keys = {results.key_of(OnnxModel, config.load(option.overrides)) for option in OPTIONS}

    assert len(keys) == len(OPTIONS)


def test_options_run_once_and_fill_the_page(
    tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: list[list[str]] = []

    def call(line: list[str], env: dict[str, str]) -> int:
        launched.append(line)
        return _run(line)

    monkeypatch.setattr(subprocess, "call", call)
    monkeypatch.setattr(rounds, "measure", _timed)

    for _ in range(2):
        _call(monkeypatch, tmp_path, "--options", "bits=8", "--limit", 5, "--rounds", 3)

    assert [line[3:] for line in launched] == [
        ["target=cpu_int4", "evaluation.limit=5"],
        ["target=cpu_int4", "target.quantization.bits=8", "evaluation.limit=5"],
    ]
    page = (tmp_path / "out" / "quantization.md").read_text()
    assert "| `target=cpu_int4` | 4.00 | 0.25 | 90.0% | 80.0% | 90.0% | 1.500 |" in page
    assert "| 1,024 (1.00) | 256 (1.00) |" in page
    assert "| `bits=8` | 8.00 | 0.25 |" in page
    assert "| 1,024 (2.00) | 256 (2.00) |" in page
    assert "on 5 questions" in page
    assert str(tmp_path) not in page
    raw = json.loads((tmp_path / "out" / "quantization.json").read_text())
    assert [row["onnx_size_mb"] for row in raw["options"]] == [4, 8]
    assert raw["options"][1]["series"]["decode_s"] == [0.25, 0.25, 0.25]


def test_a_run_that_fails_ends_it(
    tmp_path: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subprocess, "call", lambda line, env: 1)

    with pytest.raises(UserError, match=r"-m steps.evaluate failed"):
        _call(monkeypatch, tmp_path)


def test_no_rounds_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadArguments, match="--rounds 0"):
        _call(monkeypatch, tmp_path, "--rounds", 0)


def _call(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: object) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", "set by --work, and restored after the test")
    where = ("--output", folder / "out", "--work", folder / "work")
    monkeypatch.setattr(sys, "argv", ["quantization", *map(str, (*arguments, *where))])
    quantization.main()


def _run(line: list[str]) -> int:
    """Log what `steps.evaluate` leaves behind, without the work."""
    made_of = config.load(line[3:])
    chosen = made_of.target.quantization
    assert chosen is not None
    folder = store.get_or_build("onnx", results.key_of(OnnxModel, made_of), lambda building: None)
    parity = {"parity.mean_kl": 0.25, "parity.top1_agreement": 0.9}
    _log(OnnxModel(path=str(folder)), made_of, {"onnx_size_mb": chosen.bits, **parity})
    figures = FlavorFigures(
        "genai", "cpu_int4", "optimum", "models:/m-0", 5, 0.8, 0.9, 1.0, 1.5, *[1.0] * 8
    )
    _log(Evaluation("set below", "tiny_phi3", (figures,)), made_of, {})
    return 0


def _log(result: Result, made_of: config.Config, metrics: Mapping[str, float]) -> None:
    with mlflow.start_run() as run:
        if isinstance(result, Evaluation):
            result = dataclasses.replace(result, run_id=run.info.run_id)
            result.log_figures()
        mlflow.set_tags({runs.STEP: result.step, runs.KEY: results.key_of(type(result), made_of)})
        mlflow.log_metrics(dict(metrics))
        mlflow.log_dict(result.to_json(), results.FILE)


def _timed(paths: Mapping[str, Path], plan: Plan) -> list[Series]:
    """Return the base at half the speed of another option."""
    base, other = paths.values()
    seconds = [0.25 if base == other else 0.5, 0.25]
    return [
        Series(engine, "-", plan.prompt_lengths[0], plan.new_tokens, (s,) * 3, (s,) * 3, None, 0.0)
        for engine, s in zip(paths, seconds, strict=True)
    ]
