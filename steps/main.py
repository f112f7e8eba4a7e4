"""Run the whole workflow, from a checkpoint to a compared and registered MLflow model.

mlflow run . --env-manager uv -P model=tiny_phi3 -P target=cpu_int4
python -m steps.main target=cpu_int8 generation.temperature=0.2
"""

from collections.abc import Sequence

from slmflow.checkpoints import chat_template
from slmflow.console import messages
from slmflow.conversion.calibration import overlap
from slmflow.datasets import traced_rows
from slmflow.datasets.rows import Row
from slmflow.measurement import execution_providers, prompt_models, unanswerable_rows
from slmflow.metrics import evaluation_inputs
from slmflow.metrics.comparison import Comparison
from slmflow.pipeline import next_command
from slmflow.pipeline.keys import base_weights_key
from slmflow.pipeline.results import (
    Evaluation,
    Measurements,
    ModelVersion,
    OnnxModel,
    Result,
    Weights,
)
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.registry import preflight
from slmflow.reports import copied_report, terminal


def main(step: Step) -> None:
    """Validate all inputs, then run the steps that must run, and show the comparison.

    What finished runs have is reused. If later results are, earlier ones need not be in the store.
    """
    execution_providers.check(step.config.target)
    inputs = evaluation_inputs.read(step.config)
    overlap.check([step.config], inputs.rows)
    preflight.validate_config(step.config)
    preflight.check_rights(step.config.registry.name)
    required = step.required(Evaluation, ModelVersion)
    _validate(step, inputs.rows, required)
    for kind in step.behind(Evaluation):
        if kind in required:
            step.ensure(kind)
        else:
            step.report_unneeded(kind)
    comparison = Comparison.from_result(step.ensure(Evaluation))
    copied_report.copy(comparison)
    terminal.show(comparison)
    version = step.ensure(ModelVersion)
    messages.info(version.summary)
    if command := next_command.serve(step.run, f"models:/{version.name}/{version.version}"):
        messages.info(f"to serve it: {command}")


def _validate(step: Step, rows: Sequence[Row], required: Sequence[type[Result]]) -> None:
    """Validate, before any work, what the steps that must run will ask of the checkpoint."""
    if OnnxModel in required:
        # Imported here, because a run that reuses everything needs no client of the hub.
        from slmflow.conversion import hub_architecture

        hub_architecture.check(step.config, base_weights_key(step.config))
    if Weights in required:
        template = step.config.generation.template
        chat_template.check_variables(step.ensure(Weights).folder, template)
    if Measurements in required:
        prompt_models.check_rows(step, rows)
        unanswerable_rows.find(step, rows)


if __name__ == "__main__":
    run_step("main", main, traced_rows.load_config)
