"""Evaluate finds the parity of a real run of convert in a tracking store."""

from pathlib import Path

import mlflow
import pandas as pd

from slmflow.metrics.evaluate_models import EvaluatedModel
from slmflow.pipeline import entries, step_runner
from slmflow.pipeline.results import Measurements, OnnxModel
from slmflow.pipeline.step import Step
from slmflow.reports.sources import ComparisonSources, find_provenance
from tests.metrics.samples import GENAI, TRANSFORMERS

MACHINE = {"cpu": "Z80"}
REFERENCE = EvaluatedModel(TRANSFORMERS, pd.DataFrame(), "run of transformers")
CONVERTED = EvaluatedModel(GENAI, pd.DataFrame(), "run of genai")


def convert(mean_kl: float, *arguments: str) -> None:
    """Finish a run of convert with these metrics."""

    def build(folder: Path) -> None:
        (folder / "model.onnx").write_text("graph")

    def work(_: Step) -> OnnxModel:
        mlflow.log_metrics(
            {"parity.mean_kl": mean_kl, "fidelity.mean_kl": 2 * mean_kl, "onnx_size_mb": 2.0}
        )
        return OnnxModel(str(entries.get_or_build("onnx", "0" * 64, build)))

    assert step_runner.run("convert", work, arguments) == 0


def find(*models: EvaluatedModel, arguments: tuple[str, ...] = ()) -> ComparisonSources:
    """Return the provenance that a run of evaluate finds."""
    results = []

    def work(step: Step) -> None:
        results.append(find_provenance(step, Measurements("run of measure", MACHINE, ()), models))

    assert step_runner.run("evaluate", work, arguments) == 0
    return results[0]


def test_conversion_of_this_config_is_found(tracking: str) -> None:
    convert(0.25)
    convert(0.5, "target=cpu_int8")
    provenance = find(REFERENCE, CONVERTED)
    assert provenance.parity == {"parity.mean_kl": 0.25, "fidelity.mean_kl": 0.5}
    assert provenance.machine == MACHINE
    assert list(provenance.runs) == [
        "comparison",
        "answers of transformers",
        "answers of genai",
        "measurements",
        "conversion",
    ]
    assert provenance.runs["answers of genai"] == "run of genai"
    assert provenance.runs["measurements"] == "run of measure"
    assert mlflow.get_run(provenance.runs["comparison"]).data.tags["slmflow.step"] == "evaluate"
    assert mlflow.get_run(provenance.runs["conversion"]).data.metrics["parity.mean_kl"] == 0.25


def test_single_model_has_no_conversion(tracking: str) -> None:
    convert(0.25)
    provenance = find(CONVERTED, arguments=("evaluation.model_uri=models:/m-1",))
    assert provenance.parity == {}
    assert list(provenance.runs) == ["comparison", "answers of genai", "measurements"]


def test_converted_model_without_reference_has_its_conversion(tracking: str) -> None:
    convert(0.25)
    provenance = find(CONVERTED, arguments=("evaluation.reference=none",))
    assert provenance.parity == {"parity.mean_kl": 0.25, "fidelity.mean_kl": 0.5}
    assert "conversion" in provenance.runs
