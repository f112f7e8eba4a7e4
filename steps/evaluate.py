"""Set both flavors side by side, by what they answered to the same rows.

python -m steps.evaluate model=tiny_phi3 target=cpu_int4 evaluation.limit=20
mlflow run . -e evaluate --env-manager uv -P model_uri=models:/my-chat-model/1
"""

from slmflow.conversion.result import OnnxModel
from slmflow.measurement import execution_providers
from slmflow.measurement.result import Measurements
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.compare import compare
from slmflow.metrics.result import Evaluation
from slmflow.pipeline.step import Step, run_step
from slmflow.reports import report
from slmflow.reports.findings import Findings


def evaluate(step: Step) -> Evaluation:
    """Make sure of the answers to every row, score them, and log and show the comparison."""
    if step.config.evaluation.model_uri is None:
        execution_providers.check(step.config.target)
    given = evaluation_inputs.read(step.config)
    measurements = step.ensure(Measurements)
    measured = measurements.load()
    tokenizer = step.ensure(OnnxModel).folder / "tokenizer.json" if len(measured) > 1 else None
    compared = compare(step.config, given, measured, tokenizer)
    findings = Findings.of(step, measurements, compared)
    report.log(findings)
    if not step.nested:
        findings.evaluation.show()
    return findings.evaluation


if __name__ == "__main__":
    run_step("evaluate", evaluate)
