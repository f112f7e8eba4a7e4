"""Comparison of two versions of the project."""

import json
from pathlib import Path

import pytest

from benchmarks import upgrade
from benchmarks.harness.engine_rounds import Plan
from benchmarks.harness.installation import CURRENT
from slmflow.errors import UserError


@pytest.mark.long
def test_report_has_both_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path))

    report = upgrade.measure("tiny", CURRENT, Plan((16,), 8, 1), conversions=1)

    rows = {row[0]: row[1:] for row in report.rows()}
    assert {"conversion, s", "prefill, tokens/s (prompt 16)"} <= rows.keys()
    assert all(float(ratio) > 0 for *_, ratio in rows.values())
    values = json.loads(report.json())
    assert [series["engine"] for series in values["series"]] == ["before", "after"]
    assert "| conversion, s |" in report.markdown()


@pytest.mark.long
def test_failing_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    broken = upgrade.Installation(tmp_path, CURRENT.python)

    with pytest.raises(UserError, match=r"benchmarks\.harness\.convert_once failed"):
        upgrade.measure("tiny", broken, Plan((16,), 8, 1), conversions=1)
