import dataclasses
import re
from pathlib import Path

import mlflow
import pytest

from slmflow.metrics.verdict import GOOD_ENOUGH, Verdict
from slmflow.reports import artifacts, copied_report, html_report, run_description, terminal
from tests.metrics.samples import COMPARISON, GENAI, REPORT, REPORT_ALONE, TRANSFORMERS


def test_description_starts_with_the_verdict_and_links_runs() -> None:
    description = run_description.render(REPORT)
    assert description.startswith(
        "**genai is good enough to serve: against transformers on 195 rows, exact match changes by "
        "-1.0 points (95 % interval -3.6 to +1.6)"
    )
    assert "\n\ngenai: 96.4% exact match, 33.3 ms median latency; transformers: " in description
    assert "[conversion](#/experiments/7/runs/f00d)" in description
    assert "[model genai](#/experiments/7/models/m-2)" in description
    table = description.replace("&emsp;", "")
    assert "| exact match | 97.4% (94.9% to 99.5%) | 96.4% (93.8% to 98.5%) |" in table
    assert "peak memory" not in description  # only one model has it
    assert "/models/" not in run_description.render(REPORT_ALONE)  # not a logged model


def test_description_fits_a_tag() -> None:
    many = {f"metric_{number}": 0.5 for number in range(500)}
    columns = dict.fromkeys(many, GENAI.user_columns["politeness"])
    genai = dataclasses.replace(
        GENAI,
        user_metrics=many,
        user_columns=columns,
        p_values={},
        verdict=Verdict(GOOD_ENOUGH, 0.05, tuple(many)),
        differences=dict.fromkeys(many, GENAI.differences["exact_match"]),
    )
    reference = dataclasses.replace(TRANSFORMERS, user_metrics=many, user_columns=columns)
    comparison = dataclasses.replace(COMPARISON, models=(reference, genai))
    description = run_description.render(dataclasses.replace(REPORT, comparison=comparison))
    assert len(description) == 5000


def test_report_is_logged_and_copied(tracking: str) -> None:
    with mlflow.start_run() as evaluate_run:
        comparison = dataclasses.replace(COMPARISON, run_id=evaluate_run.info.run_id)
        artifacts.log_report(dataclasses.replace(REPORT, comparison=comparison))
    with mlflow.start_run() as main_run:
        copied_report.copy(comparison)
    original, copy = (mlflow.get_run(run.info.run_id) for run in (evaluate_run, main_run))
    assert original.data.metrics == copy.data.metrics
    assert original.data.metrics["genai.exact_match"] == 0.964
    descriptions = [each.data.tags["mlflow.note.content"] for each in (original, copy)]
    assert descriptions == [run_description.render(REPORT)] * 2
    for run in (evaluate_run, main_run):
        logged = {file.path for file in mlflow.artifacts.list_artifacts(run_id=run.info.run_id)}
        assert logged == {"comparison.json", "comparison.md", "comparison.html", "comparison.png"}
    page = mlflow.artifacts.load_text(f"runs:/{main_run.info.run_id}/comparison.html")
    assert page == html_report.render(REPORT)


def test_terminal_shows_table_and_report_path(
    tracking: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with mlflow.start_run() as run:
        comparison = dataclasses.replace(COMPARISON, run_id=run.info.run_id)
        artifacts.log_report(dataclasses.replace(REPORT, comparison=comparison))
    capsys.readouterr()

    terminal.show(comparison)

    table, _, path = capsys.readouterr().err.partition("The report is ")
    assert " ".join(table.split()).startswith("genai is good enough to serve: ")
    assert "transformers" in table
    assert re.search(r"exact_match +│ +97.4% │ +96.4% │ +-1.0 \(-3.6 to \+1.6\) ", table)
    assert "prefill_tokens_per_s" in table  # in 80 columns
    assert Path(path.strip()).name == "comparison.html"
    assert Path(path.strip()).is_file()
