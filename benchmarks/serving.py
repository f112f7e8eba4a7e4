"""Measure what answering costs beside the bare runtime, and what is gained by answering together.

python -m benchmarks.serving --output docs/serving
python -m benchmarks.serving --shape tiny --rounds 1 --requests 20 --output trial

Writes SHAPE.md, SHAPE.json (every raw value) and SHAPE.png to the output folder. Nothing else
should compute meanwhile. Needs Linux. The model is random weights, logged by
`python -m steps.log_genai` with a tracking database kept in the work folder, asked in this process
as MLflow's pyfunc, and then served by `python -m steps.serve` to OpenAI's own client.
"""

from pathlib import Path

from benchmarks.harness.command_line import add_work, parser, run, use_store
from benchmarks.models import logged, readable_tokens
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import serving_plot
from benchmarks.reports.serving_report import Report
from benchmarks.server_load import (
    batch_gain,
    mixed_load,
)
from benchmarks.server_load import (
    overhead as serving_overhead,
)
from benchmarks.server_load import (
    server as served,
)
from benchmarks.server_load import (
    streams as serving_streams,
)
from benchmarks.server_load.batch_gain import Batch
from benchmarks.server_load.in_process_model import LoadedModel
from benchmarks.server_load.overhead import Overhead
from benchmarks.server_load.prompts import KINDS, lasting
from slmflow.console import messages
from slmflow.errors import BadArguments
from slmflow.flavors.genai_result import GenaiModel

TARGET = "cpu_int4"

# In words. Short ones, where most of the time goes into tokens.
OVERHEAD_PROMPTS = (24, 24, 24, 24)
ROWS, STREAMS = 16, 8


def measure(shape: str, rounds: int, requests: int) -> Report:
    """Log the model if that is not done yet, and measure. Raises UserError where that fails."""
    overrides = [
        *("model=local", f"model.path={readable_tokens.weights(shape)}", f"model.name={shape}"),
        f"target={TARGET}",
    ]
    logged.make_sure(overrides)
    model_uri = logged.finished(GenaiModel, overrides)[0].model_uri
    overhead, batches, streamed = _in_this_process(model_uri, rounds)
    with served.serving(model_uri) as server:
        streams = {
            kind: serving_streams.measure(server, kind, texts, rounds)
            for kind, texts in streamed.items()
        }
        load = mixed_load.measure(server, requests)
    return Report(shape, TARGET, overhead, batches, streams, load)


def _in_this_process(
    model_uri: str, rounds: int
) -> tuple[Overhead, dict[str, Batch], dict[str, list[str]]]:
    """Measure what needs no server, and return the texts to stream; the memory is free then."""
    with messages.working("loading the model"):
        model = LoadedModel(model_uri)

    def said(text: str) -> int:
        return model.answer(text).tokens

    return (
        serving_overhead.measure(model, lasting(OVERHEAD_PROMPTS, said), rounds),
        {
            kind: batch_gain.measure(model, kind, lasting(spread(ROWS), said), rounds)
            for kind, spread in KINDS.items()
        },
        {kind: lasting(spread(STREAMS), said) for kind, spread in KINDS.items()},
    )


def write(report: Report, folder: Path) -> None:
    """Write table, raw values and picture, and show the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{report.shape}.md").write_text(report.markdown() + "\n")
    (folder / f"{report.shape}.json").write_text(report.json() + "\n")
    serving_plot.draw(report).savefig(folder / f"{report.shape}.png")
    messages.table(report.title, report.HEADER, report.rows())


def main() -> None:
    """Measure what the command line says."""
    arguments = parser(__doc__)
    arguments.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    arguments.add_argument("--rounds", type=int, default=10, help="of timing (%(default)s)")
    arguments.add_argument("--requests", type=int, default=200, help="of the load (%(default)s)")
    arguments.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_work(arguments)
    given = arguments.parse_args()
    if given.rounds < 1 or given.requests < 2:
        raise BadArguments("--rounds must be at least 1, and --requests at least 2")
    output = given.output.absolute()
    use_store(given.work)
    with logged.tracking_in(given.work.absolute() / "serving"):
        report = measure(given.shape, given.rounds, given.requests)
    write(report, output)


if __name__ == "__main__":
    run(main)
