"""SmolLM2-135M-Instruct through the whole workflow, for all CPU targets."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from benchmarks import real_workflow
from benchmarks.models import logged_models, stored_models
from benchmarks.real_workflow import Report
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.verdict import GOOD_ENOUGH, NOT_GOOD_ENOUGH
from slmflow.pipeline.results import Measurements

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def weights() -> Path:
    return stored_models.smollm2()


@pytest.fixture(scope="module")
def report(
    weights: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Report]:
    """The comparisons of all targets, in one tracking database."""
    results = request.config.getoption("--results")
    output = Path(results).absolute() if results else tmp_path_factory.mktemp("results")
    with logged_models.use_tracking_folder(tmp_path_factory.mktemp("real")):
        report = real_workflow.measure(weights, real_workflow.TARGETS)
        report.write(output)
        yield report


def comparison(report: Report, target: str) -> Comparison:
    (found,) = (each for each in report.comparisons if each.compared.target == target)
    return found


def test_fp32_answers_as_transformers_does(report: Report) -> None:
    compared = comparison(report, "cpu_fp32")
    assert compared.compared.agreement == 1
    assert compared.reference
    assert compared.compared.perplexity == pytest.approx(compared.reference.perplexity, rel=1e-4)
    assert compared.compared.exact_match == compared.reference.exact_match
    assert compared.verdict and compared.verdict.outcome == GOOD_ENOUGH


def test_int8_stays_close_to_the_original(report: Report) -> None:
    compared = comparison(report, "cpu_int8")
    assert compared.reference
    assert compared.compared.perplexity == pytest.approx(compared.reference.perplexity, rel=0.05)
    assert compared.compared.token_f1 == pytest.approx(compared.reference.token_f1, abs=0.05)
    assert compared.verdict and compared.verdict.outcome == GOOD_ENOUGH


def test_reference_is_asked_once_for_all_targets(report: Report) -> None:
    answers = [
        mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{Measurements.artifact}")["models"][0][
            "answers"
        ]
        for run in mlflow.MlflowClient().search_runs(
            [logged_models.EXPERIMENT_ID], f"tags.`slmflow.step` = '{Measurements.step}'"
        )
    ]
    assert len(answers) == len(real_workflow.TARGETS)
    assert all(each == answers[0] for each in answers)


def test_calibration_keeps_more_of_the_original(report: Report) -> None:
    balanced, calibrated, rounded = (
        comparison(report, target).compared.perplexity
        for target in ("cpu_balanced", "cpu_int4", "cpu_int4_rtn")
    )
    assert balanced and calibrated and rounded
    assert balanced < calibrated < rounded


def test_gate_refuses_plain_rounding(report: Report, weights: Path) -> None:
    compared = comparison(report, "cpu_int4_rtn")
    assert compared.verdict and compared.verdict.outcome == NOT_GOOD_ENOUGH
    command = [
        sys.executable,
        "-m",
        "steps.register",
        *real_workflow.overrides(weights, "cpu_int4_rtn"),
    ]
    result = subprocess.run(
        [*command, "registry.flavor=genai"],
        env=logged_models.environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 1
    assert "token_f1" in result.stderr
