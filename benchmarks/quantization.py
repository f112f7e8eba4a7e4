"""Measure the quantization options of the bundled model, by the project's own workflow.

python -m benchmarks.quantization --output docs
python -m benchmarks.quantization --output trial --options bits=8 --limit 20 --rounds 3

Writes quantization.md and quantization.json (every raw value) to the output folder. Nothing else
should run at the same time. `python -m steps.log_genai` converts and logs each option, with a
tracking database in the work folder, whose finished runs are reused. Each is evaluated as in
`steps.evaluate`, without the transformers flavor, which is the same for all options. Then the speed
of each converted model is measured in rounds that alternate with the base.
"""

from collections.abc import Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from benchmarks.harness import engine_rounds
from benchmarks.harness.command_line import (
    add_rounds_and_output,
    create_parser,
    parse_with_store,
    run_main,
)
from benchmarks.harness.engine_process import EngineModel
from benchmarks.harness.engine_rounds import Plan
from benchmarks.models import logged_models
from benchmarks.reports import page
from benchmarks.reports.quantization_report import (
    BASE,
    HEADER,
    OPTIONS,
    MeasuredOption,
    Option,
    Report,
)
from slmflow.config import compose
from slmflow.console import messages
from slmflow.datasets import rows
from slmflow.measurement import interleaved
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.metrics.evaluate_models import evaluate_models
from slmflow.metrics.evaluation_inputs import EvaluationInputs
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.pipeline.results import GenaiModel, OnnxModel

PROMPT_TOKENS, NEW_TOKENS = 256, 64


def measure(options: Sequence[Option], limit: int | None, plan: Plan) -> Report:
    """Evaluate each option on `limit` rows (None: all) and time it against the base.

    Raises UserError if a run fails.
    """
    for number, option in enumerate(options, 1):
        messages.step_status(f"option {number}/{len(options)}", option.name)
        logged_models.ensure_logged(option.overrides)
    base, _ = logged_models.find_logged(OnnxModel, BASE.overrides)
    return Report(tuple(_measure_option(option, limit, base.folder, plan) for option in options))


def _measure_option(option: Option, limit: int | None, base: Path, plan: Plan) -> MeasuredOption:
    onnx, run_id = logged_models.find_logged(OnnxModel, option.overrides)
    conversion = MlflowClient().get_run(run_id).data.metrics
    # The names of two engines that both run ONNX Runtime GenAI, here for the base and the option.
    base_timings, timings = engine_rounds.measure(
        {"builder": EngineModel("builder", base), "slmflow": EngineModel("slmflow", onnx.folder)},
        plan,
    )
    return MeasuredOption(
        option=option,
        onnx_size_mb=conversion["onnx_size_mb"],
        mean_kl=conversion["parity.mean_kl"],
        top1_agreement=conversion["parity.top1_agreement"],
        metrics=_evaluate(option, limit),
        base_timings=base_timings,
        timings=timings,
    )


def _evaluate(option: Option, limit: int | None) -> ModelMetrics:
    composed = compose.load(option.overrides)
    model, _ = logged_models.find_logged(GenaiModel, option.overrides)
    inputs = EvaluationInputs(rows.read(composed)[:limit], [])
    measured = interleaved.measure([MeasuredModel.from_logged(model)], inputs.rows)
    with mlflow.start_run(run_name=option.name):
        (evaluated,) = evaluate_models(composed, inputs, measured)
    return evaluated.metrics


def main() -> None:
    """Run the benchmark from the command line."""
    parser = create_parser(__doc__)
    names = [option.name for option in OPTIONS]
    parser.add_argument(
        "--options",
        nargs="+",
        choices=names,
        default=names,
        metavar="OPTION",
        help=f"options to measure besides {BASE.name} (default: all of {', '.join(names)})",
    )
    parser.add_argument("--limit", type=int, help="number of evaluation rows (default: all)")
    add_rounds_and_output(parser, rounds=15)
    arguments = parse_with_store(parser)
    options = [option for option in OPTIONS if option == BASE or option.name in arguments.options]
    with logged_models.use_tracking_folder(arguments.work / "quantization"):
        report = measure(
            options, arguments.limit, Plan((PROMPT_TOKENS,), NEW_TOKENS, arguments.rounds)
        )
    page.write(report, arguments.output, "quantization")
    messages.table(report.title, HEADER, report.rows())


if __name__ == "__main__":
    run_main(main)
