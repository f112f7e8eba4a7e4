"""Set both flavors side by side, by what they answered to the same rows.

python -m steps.evaluate model=tiny_phi3 target=cpu_int4 evaluation.limit=20
mlflow run . -e evaluate --env-manager uv -P model_uri=models:/my-chat-model/1
"""

from steps.common import providers
from steps.common.step import Step, run_step
from steps.convert.result import OnnxModel
from steps.evaluate import inputs, report
from steps.evaluate.compare import compare
from steps.evaluate.findings import Findings
from steps.evaluate.result import Evaluation
from steps.measure.result import Measurements


def evaluate(step: Step) -> Evaluation:
    """Make sure of the answers to every row, score them, and log and show the comparison."""
    if step.config.evaluation.model_uri is None:
        providers.check(step.config.target)
    given = inputs.read(step.config)
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
