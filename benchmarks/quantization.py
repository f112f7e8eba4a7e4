"""Measure the quantization options of the bundled model, by the project's own workflow.

python -m benchmarks.quantization --output docs
python -m benchmarks.quantization --output trial --options bits=8 --limit 20 --rounds 3

Writes quantization.md and quantization.json (every raw value) to the output folder. Nothing else
should compute meanwhile. Each option is converted and logged by `python -m steps.log_genai`, with
a tracking database kept in the work folder (what has finished there is not run again), and
evaluated as `steps.evaluate` does it, without the transformers flavor, which is the same for all.
Speed is then measured on the converted models, each in alternating rounds with the base.
"""

from collections.abc import Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from benchmarks.harness import rounds
from benchmarks.harness.command_line import add_work, parser, run, use_store
from benchmarks.harness.rounds import Plan
from benchmarks.harness.series import Series
from benchmarks.models import logged
from benchmarks.reports.quantization_report import BASE, OPTIONS, Measured, Option, Report
from slmflow.config import compose
from slmflow.console import messages
from slmflow.conversion.result import OnnxModel
from slmflow.datasets import rows
from slmflow.errors import BadArguments
from slmflow.flavors.genai_result import GenaiModel
from slmflow.measurement import turns
from slmflow.measurement.measured_model import MeasuredModel
from slmflow.metrics.compare import compare
from slmflow.metrics.evaluation_inputs import Inputs
from slmflow.metrics.figures import FlavorFigures

PROMPT_TOKENS, NEW_TOKENS = 256, 64


def measure(options: Sequence[Option], limit: int | None, plan: Plan) -> Report:
    """Evaluate each option on `limit` rows (None: all), and time each beside the base.

    Raises UserError where a run fails.
    """
    for number, option in enumerate(options, 1):
        messages.step_line(f"option {number}/{len(options)}", option.name)
        logged.make_sure(option.overrides)
    base, _ = logged.finished(OnnxModel, BASE.overrides)
    return Report(tuple(_measured(option, limit, base.folder, plan) for option in options))


def write(report: Report, folder: Path) -> None:
    """Write table and raw values, and show the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "quantization.md").write_text(report.markdown())
    (folder / "quantization.json").write_text(report.json() + "\n")
    header, *lines = report.table()
    messages.table(report.title, header, lines)


def _measured(option: Option, limit: int | None, base: Path, plan: Plan) -> Measured:
    onnx, run_id = logged.finished(OnnxModel, option.overrides)
    conversion = MlflowClient().get_run(run_id).data.metrics
    against, series = _alternate(base, onnx.folder, plan)
    return Measured(
        option=option,
        onnx_size_mb=conversion["onnx_size_mb"],
        mean_kl=conversion["parity.mean_kl"],
        top1_agreement=conversion["parity.top1_agreement"],
        figures=_evaluated(option, limit),
        base=against,
        series=series,
    )


def _evaluated(option: Option, limit: int | None) -> FlavorFigures:
    composed = compose.load(option.overrides)
    model, _ = logged.finished(GenaiModel, option.overrides)
    given = Inputs(rows.read(composed)[:limit], [])
    measured = turns.measure([MeasuredModel.of(model)], given.rows)
    with mlflow.start_run(run_name=option.name):
        (compared,) = compare(composed, given, measured, tokenizer=None)
    return compared.figures


def _alternate(base: Path, folder: Path, plan: Plan) -> tuple[Series, Series]:
    """Time two converted models in turns, the base first; it may be both of them."""
    # Both names are of ONNX Runtime GenAI: here they only tell the two processes apart.
    against, series = rounds.measure({"builder": base, "slmflow": folder}, plan)
    return against, series


def main() -> None:
    """Measure what the command line says."""
    arguments = parser(__doc__)
    names = [option.name for option in OPTIONS]
    arguments.add_argument(
        "--options",
        nargs="+",
        choices=names,
        default=names,
        metavar="OPTION",
        help=f"{BASE.name} is always among them; by default all of: {', '.join(names)}",
    )
    arguments.add_argument("--limit", type=int, help="rows of the evaluation data (all)")
    arguments.add_argument("--rounds", type=int, default=15, help="of timing (%(default)s)")
    arguments.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_work(arguments)
    given = arguments.parse_args()
    if given.rounds < 1:
        raise BadArguments(f"--rounds {given.rounds}: must be at least 1")
    output, work = given.output.absolute(), given.work.absolute() / "quantization"
    use_store(given.work)
    options = [option for option in OPTIONS if option == BASE or option.name in given.options]
    with logged.tracking_in(work):
        report = measure(options, given.limit, Plan((PROMPT_TOKENS,), NEW_TOKENS, given.rounds))
    write(report, output)


if __name__ == "__main__":
    run(main)
