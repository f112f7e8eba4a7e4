"""Compare both flavors by their answers to the same rows: is the converted model good enough?

python -m steps.evaluate model=tiny_phi3 target=cpu_int4 evaluation.limit=20
mlflow run . -e evaluate --env-manager uv -P model_uri=models:/my-chat-model/1
"""

from slmflow.checkpoints.files import TOKENIZER
from slmflow.conversion.calibration import overlap
from slmflow.datasets import traced_rows
from slmflow.measurement import checkpoint_files, execution_providers
from slmflow.measurement.artifact import load_measurements
from slmflow.metrics import evaluation_inputs, row_traces
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.evaluate_models import evaluate_models
from slmflow.metrics.task_metrics import evaluate_tasks
from slmflow.pipeline import run_links
from slmflow.pipeline.results import Evaluation, Measurements, OnnxModel
from slmflow.pipeline.step import Step
from slmflow.pipeline.step_runner import run_step
from slmflow.reports import artifacts, notes, terminal
from slmflow.reports.content import ReportContent
from slmflow.sweeps.context import POINT

LATE_IMPORTS = ("scipy.stats", "mlflow.models.evaluation.evaluator_registry")
"""What this step imports when it runs; the process that forks it imports it before."""


def evaluate(step: Step) -> Evaluation:
    """Ensure the measurements, score the answers, and log and show the comparison.

    The graph itself is not needed, only what its conversion recorded.
    """
    if step.config.evaluation.model_uri is None:
        execution_providers.check(step.config.target)
    inputs = evaluation_inputs.read(step.config)
    overlap.check([step.config], inputs.rows)
    measurements = step.ensure(Measurements)
    measured = load_measurements(measurements)
    run_links.log_models_in(each.model.model_id for each in measured)
    onnx = step.recorded(OnnxModel) if step.config.evaluation.model_uri is None else None
    if step.config.evaluation.tasks:
        models = evaluate_tasks(step.config, measured, onnx)
    elif len(measured) == 1:
        models = evaluate_models(step.config, inputs, measured, onnx)
    else:
        with checkpoint_files.open_folder(step) as checkpoint:
            models = evaluate_models(step.config, inputs, measured, onnx, checkpoint / TOKENIZER)
    if not step.config.evaluation.tasks and POINT not in step.run.data.tags:
        # The rows of all points of a sweep would bury the traces of an experiment.
        row_traces.log(models[-1].run_id, measured[-1].model.model_id or None, models[-1].table)
    comparison = Comparison.from_evaluated(step, models)
    note = notes.of_measurements(measured, inputs.rows)
    artifacts.log_report(ReportContent.build(step, comparison, measurements, models, note))
    if not step.is_nested:
        terminal.show(comparison)
    return comparison.to_result()


if __name__ == "__main__":
    run_step("evaluate", evaluate, traced_rows.load_config)
