"""Run the whole workflow, from a checkpoint to a compared and registered MLflow model.

mlflow run . --env-manager uv -P model=tiny_phi3 -P target=cpu_int4
python -m steps.main target=cpu_int8 generation.temperature=0.2
"""

from slmflow.checkpoints import chat_template
from slmflow.console import messages
from slmflow.conversion import hub_architecture
from slmflow.conversion.calibration import overlap
from slmflow.measurement import (
    compared_models,
    execution_providers,
    prompt_models,
    unanswerable_rows,
)
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.comparison import Comparison
from slmflow.pipeline.results import (
    Evaluation,
    Measurements,
    ModelVersion,
    OnnxModel,
    Weights,
)
from slmflow.pipeline.step import Step, run_step
from slmflow.registry import preflight
from slmflow.reports import artifacts, terminal


def main(step: Step) -> None:
    """Validate all inputs, then run each step or reuse its result, and show the comparison."""
    execution_providers.check(step.config.target)
    inputs = evaluation_inputs.read(step.config)
    overlap.check([step.config], inputs.rows)
    preflight.validate_config(step.config)
    hub_architecture.check(step.config, step.key(Weights))
    chat_template.check_variables(step.ensure(Weights).folder, step.config.generation.template)
    prompt_models.check_rows(step, inputs.rows)
    unanswerable_rows.find(step, inputs.rows)
    step.ensure(OnnxModel)
    for flavor in compared_models.kinds(step.config):
        step.ensure(flavor)
    step.ensure(Measurements)
    comparison = Comparison.from_result(step.ensure(Evaluation))
    artifacts.copy_report(comparison)
    terminal.show(comparison)
    version = step.ensure(ModelVersion)
    messages.info(version.summary)


if __name__ == "__main__":
    run_step("main", main)
