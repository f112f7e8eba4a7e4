"""Conversion of checkpoints and comparison of their answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from slmflow.paths import PROJECT
from tests.conversion.architectures import edited_bundle

pytestmark = pytest.mark.long


def test_converted_and_rejected_checkpoints_are_listed(tmp_path: Path, run_benchmark: Any) -> None:
    broken = edited_bundle(tmp_path / "broken", architectures=["NoSuchForCausalLM"])
    folders = [PROJECT / "bundled" / "tiny_phi3", broken]

    output = run_benchmark("real_models", *folders, "--targets", "cpu_fp32", "--work", tmp_path)

    page = (output / "models.md").read_text()
    assert "| bundled/tiny_phi3 | cpu_fp32 |" in page
    assert "8 of 8 answers equal" in page
    outcomes = json.loads((output / "models.json").read_text())["outcomes"]
    assert [bool(outcome["error"]) for outcome in outcomes] == [False, True]
