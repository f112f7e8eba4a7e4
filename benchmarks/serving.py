"""Measure the overhead of serving over the bare runtime, and the gain of batching.

python -m benchmarks.serving --output docs/serving
python -m benchmarks.serving --shape tiny --rounds 1 --requests 20 --output trial

Writes SHAPE.md, SHAPE.json (every raw value) and SHAPE.png to the output folder. The machine should
be idle otherwise. Requires Linux. The model has random weights; `python -m steps.log_genai` logs it
to a tracking database in the work folder. It is measured in this process as MLflow's pyfunc, and
then served by `python -m steps.serve` to OpenAI's client.
"""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.harness.command_line import add_work_option, create_parser, run_main, use_store
from benchmarks.models import logged_models, readable_weights
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page, serving_plot
from benchmarks.reports.serving_report import Report
from benchmarks.server_load import batch_gain, mixed_load, overhead, streams
from benchmarks.server_load.batch_gain import Batch
from benchmarks.server_load.in_process_model import InProcessModel
from benchmarks.server_load.overhead import Overhead
from benchmarks.server_load.prompts import KINDS, full_length_prompts
from benchmarks.server_load.server import serving
from slmflow.console import messages, progress_bars
from slmflow.errors import BadArguments
from slmflow.pipeline.results import GenaiModel

TARGET = "cpu_int4"

# Lengths in words. Short prompts, so that most of the time is decoding.
OVERHEAD_PROMPTS = (24, 24, 24, 24)
ROWS, STREAMS = 16, 8


def measure(shape: str, rounds: int, requests: int) -> Report:
    """Log the model unless it is logged, and measure. Raises UserError if that fails."""
    overrides = [
        "model=local",
        f"model.path={readable_weights.readable_weights(shape)}",
        f"model.name={shape}",
        f"target={TARGET}",
    ]
    logged_models.ensure_logged(overrides)
    model_uri = logged_models.find_logged(GenaiModel, overrides)[0].model_uri
    overheads, batches, prompts = _measure_in_process(model_uri, rounds)
    with serving(model_uri) as server:
        served = {
            kind: streams.measure(server, kind, texts, rounds) for kind, texts in prompts.items()
        }
        load = mixed_load.measure(server, requests)
    return Report(shape, TARGET, overheads, batches, served, load)


def _measure_in_process(
    model_uri: str, rounds: int
) -> tuple[Overhead, dict[str, Batch], dict[str, list[str]]]:
    """Measure without a server, and return the prompts to stream. This frees the model's memory."""
    with progress_bars.spinner("loading the model"):
        model = InProcessModel(model_uri)

    def prompts(lengths: Iterable[int]) -> list[str]:
        return full_length_prompts(lengths, lambda text: model.complete(text).tokens)

    return (
        overhead.measure(model, prompts(OVERHEAD_PROMPTS), rounds),
        {
            kind: batch_gain.measure(model, kind, prompts(lengths(ROWS)), rounds)
            for kind, lengths in KINDS.items()
        },
        {kind: prompts(lengths(STREAMS)) for kind, lengths in KINDS.items()},
    )


def write(report: Report, folder: Path) -> None:
    """Write table, raw values and plot, and show the table."""
    page.write(report, folder, report.shape)
    serving_plot.draw(report).savefig(folder / f"{report.shape}.png")
    messages.table(report.title, report.HEADER, report.rows())


def main() -> None:
    """Parse the command line and measure."""
    command_line = create_parser(__doc__)
    command_line.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    command_line.add_argument("--rounds", type=int, default=10, help="of timing (%(default)s)")
    command_line.add_argument("--requests", type=int, default=200, help="of the load (%(default)s)")
    command_line.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_work_option(command_line)
    arguments = command_line.parse_args()
    if arguments.rounds < 1 or arguments.requests < 2:
        raise BadArguments("--rounds must be at least 1, and --requests at least 2")
    output = arguments.output.absolute()
    use_store(arguments.work)
    with logged_models.use_tracking_folder(arguments.work.absolute() / "serving"):
        report = measure(arguments.shape, arguments.rounds, arguments.requests)
    write(report, output)


if __name__ == "__main__":
    run_main(main)
