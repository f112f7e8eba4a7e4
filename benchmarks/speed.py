"""Measure speed and memory of a converted model beside other engines, on this machine's CPU.

python -m benchmarks.speed --output docs/speed
python -m benchmarks.speed --shape phi3_mini_8_layers --engines slmflow builder --output docs/speed
python -m benchmarks.speed --shape tiny --prompts 32 --rounds 1 --output trial

Writes SHAPE.md, SHAPE.json (every raw value) and SHAPE.png to the output folder. Nothing else
should compute meanwhile. Models are random weights, converted once and kept in the store.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import rounds
from benchmarks.harness.command_line import add_work, parser, run, use_store
from benchmarks.harness.engines import LLAMA_CPP, LOADERS, missing
from benchmarks.harness.rounds import Plan
from benchmarks.harness.series import Series
from benchmarks.models import prepared
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import speed_plot
from benchmarks.reports.speed_report import Report
from slmflow.config.schema.target import ExporterName
from slmflow.console import messages
from slmflow.errors import BadArguments, UserError

TARGET = "cpu_int4"

# More than this while others have their turn would slow them down.
IDLE_CPU_SHARE = 0.05

# What each engine reads, made of a snapshot folder.
_MADE: dict[str, Callable[[Path], Path]] = {
    "slmflow": partial(prepared.onnx, target=TARGET, exporter=ExporterName.optimum),
    "builder": partial(prepared.onnx, target=TARGET, exporter=ExporterName.builder),
    "transformers": lambda weights: weights,
    "llama_cpp": prepared.gguf,
}


def measure(shape: str, engines: Sequence[str], plan: Plan) -> Report:
    """Make what is not there yet, and measure the engines that are installed.

    Raises UserError where none is, or where one fails.
    """
    left_out = {
        engine: f"{' and '.join(lacks)} not installed; `pip install {' '.join(LLAMA_CPP)}`"
        for engine in engines
        if (lacks := missing(engine))
    }
    for engine, reason in left_out.items():
        messages.warn(f"{engine} is left out: {reason}")
    present = [engine for engine in engines if engine not in left_out]
    if not present:
        raise UserError("no engine is left to measure: install one, or name others")
    weights = prepared.weights(shape)
    series = rounds.measure({engine: _MADE[engine](weights) for engine in present}, plan)
    _warn_of_busy(series)
    return Report(shape, TARGET, series, left_out)


def write(report: Report, folder: Path) -> None:
    """Write table, raw values and picture, and show the table."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{report.shape}.md").write_text(report.markdown() + "\n")
    (folder / f"{report.shape}.json").write_text(report.json() + "\n")
    speed_plot.draw(report).savefig(folder / f"{report.shape}.png")
    messages.table(report.title, ["figure", *report.engines], report.rows())


def _warn_of_busy(series: Sequence[Series]) -> None:
    for one in series:
        if one.idle_cpu_share > IDLE_CPU_SHARE:
            messages.warn(
                f"{one.engine} took {one.idle_cpu_share:.0%} of a core while the others had their "
                f"turn at {one.prompt_tokens} tokens: their figures are too low"
            )


def main() -> None:
    """Measure what the command line says."""
    arguments = parser(__doc__)
    arguments.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    arguments.add_argument("--prompts", type=int, nargs="+", default=[256, 1500])
    arguments.add_argument("--new-tokens", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=8)
    arguments.add_argument("--engines", nargs="+", choices=LOADERS, default=list(LOADERS))
    arguments.add_argument("--output", type=Path, required=True, help="folder for the results")
    add_work(arguments)
    given = arguments.parse_args()
    plan = Plan(tuple(given.prompts), given.new_tokens, given.rounds)
    _refuse(plan, SHAPES[given.shape].context_length)
    use_store(given.work)
    write(measure(given.shape, given.engines, plan), given.output)


def _refuse(plan: Plan, context_length: int) -> None:
    if min(*plan.prompt_lengths, plan.new_tokens, plan.rounds) < 1:
        raise BadArguments("--prompts, --new-tokens and --rounds must be at least 1")
    if plan.context > context_length:
        raise BadArguments(
            f"prompt and answer have up to {plan.context} tokens, and the model's context holds "
            f"{context_length}: give shorter --prompts or fewer --new-tokens"
        )


if __name__ == "__main__":
    run(main)
