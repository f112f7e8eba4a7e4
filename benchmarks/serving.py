"""Measure the overhead of serving over the bare runtime, and the gain of batching.

python -m benchmarks.serving --output docs/serving
python -m benchmarks.serving --shape tiny --rounds 1 --requests 20 --output trial

Writes SHAPE.md, SHAPE.json (every raw value) and SHAPE.png to the output folder. The machine should
be idle otherwise. Requires Linux. The model has random weights; `python -m steps.log_genai` logs it
to a tracking database in the work folder. It is measured in this process as MLflow's pyfunc, and
then served by `python -m steps.serve` to OpenAI's client.
"""

from collections.abc import Iterable

from benchmarks.harness.command_line import (
    add_rounds_and_output,
    at_least,
    create_parser,
    parse_with_store,
    run_main,
)
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

TARGET = "cpu_int4"

# Lengths in words. Short prompts, so that most of the time is decoding.
OVERHEAD_PROMPTS = (24, 24, 24, 24)
ROWS, STREAMS = 16, 8


def measure(shape: str, rounds: int, requests: int) -> Report:
    """Log the model unless it is logged, and measure. Raises UserError if that fails."""
    overrides = [*readable_weights.model_overrides(shape), f"target={TARGET}"]
    model_uri = logged_models.ensure_logged(overrides).model_uri
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


def main() -> None:
    """Parse the command line and measure."""
    parser = create_parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    parser.add_argument(
        "--requests", type=at_least(2), default=200, help="of the load (%(default)s)"
    )
    add_rounds_and_output(parser, rounds=10)
    arguments = parse_with_store(parser)
    with logged_models.use_tracking_folder(arguments.work / "serving"):
        report = measure(arguments.shape, arguments.rounds, arguments.requests)
    page.write(report, arguments.output, report.shape)
    serving_plot.draw(report).savefig(arguments.output / f"{report.shape}.png")
    messages.table(report.title, report.HEADER, report.rows())


if __name__ == "__main__":
    run_main(main)
