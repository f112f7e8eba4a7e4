"""Set both flavors side by side, by what they answered to the same rows.

python -m steps.evaluate model=tiny_phi3 target=cpu_int4 evaluation.limit=20
mlflow run . -e evaluate --env-manager uv -P model_uri=models:/my-chat-model/1
"""

from slmflow.measurement import execution_providers
from slmflow.measurement.artifact import load_measurements
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.evaluate_models import evaluate_models
from slmflow.pipeline.results import Evaluation, Measurements, OnnxModel
from slmflow.pipeline.step import Step, run_step
from slmflow.reports import report, terminal
from slmflow.reports.content import ReportContent


def evaluate(step: Step) -> Evaluation:
    """Make sure of the answers to every row, score them, and log and show the comparison."""
    if step.config.evaluation.model_uri is None:
        execution_providers.check(step.config.target)
    given = evaluation_inputs.read(step.config)
    measurements = step.ensure(Measurements)
    measured = load_measurements(measurements)
    tokenizer = step.ensure(OnnxModel).folder / "tokenizer.json" if len(measured) > 1 else None
    compared = evaluate_models(step.config, given, measured, tokenizer)
    findings = ReportContent.of(step, measurements, compared)
    report.log(findings)
    if not step.nested:
        terminal.show(findings.comparison)
    return findings.comparison.to_result()


if __name__ == "__main__":
    run_step("evaluate", evaluate)
