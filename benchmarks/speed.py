"""Measure speed and memory of a converted model against other engines on this machine's CPU.

python -m benchmarks.speed --output docs/speed
python -m benchmarks.speed --shape phi3_mini_8_layers --engines slmflow builder --output docs/speed
python -m benchmarks.speed --shape tiny --prompts 32 --rounds 1 --output trial

Writes SHAPE.md, SHAPE.json (every raw value) and SHAPE.png to the output folder. Nothing else
should run at the same time. Models have random weights, are converted once and stay in the store.
"""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from benchmarks.harness import engine_rounds
from benchmarks.harness.command_line import (
    add_rounds_and_output,
    at_least,
    create_parser,
    parse_with_store,
    run_main,
)
from benchmarks.harness.engine_process import EngineModel
from benchmarks.harness.engine_rounds import Plan
from benchmarks.harness.engines import LLAMA_CPP, LOADERS, missing_modules
from benchmarks.harness.timings import EngineTimings
from benchmarks.models import stored_models
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page, speed_plot
from benchmarks.reports.speed_report import Report
from slmflow.config.schema.target import ExporterName
from slmflow.console import messages
from slmflow.errors import BadArguments, UserError

# The builder does not calibrate.
TARGETS = {"slmflow": "cpu_int4", "builder": "cpu_int4_rtn"}

# An engine that uses more of a core while it is idle slows the others down.
IDLE_CPU_SHARE = 0.05

# Builds what each engine loads from a checkpoint.
_BUILDERS: dict[str, Callable[[Path], Path]] = {
    "slmflow": partial(
        stored_models.onnx_model, target=TARGETS["slmflow"], exporter=ExporterName.optimum
    ),
    "builder": partial(
        stored_models.onnx_model, target=TARGETS["builder"], exporter=ExporterName.builder
    ),
    "transformers": lambda weights: weights,
    "llama_cpp": stored_models.gguf_model,
}


def measure(shape: str, engines: Sequence[str], plan: Plan) -> Report:
    """Build missing models and measure the engines that are installed.

    Raises UserError if none is installed, or if one fails.
    """
    left_out = {
        engine: f"{' and '.join(modules)} not installed; `pip install {' '.join(LLAMA_CPP)}`"
        for engine in engines
        if (modules := missing_modules(engine))
    }
    for engine, reason in left_out.items():
        messages.warning(f"{engine} is left out: {reason}")
    installed = [engine for engine in engines if engine not in left_out]
    if not installed:
        raise UserError("none of the engines is installed: install one, or choose others")
    weights = stored_models.random_weights(shape)
    models = {engine: EngineModel(engine, _BUILDERS[engine](weights)) for engine in installed}
    timings = engine_rounds.measure(models, plan)
    _warn_of_busy_engines(timings)
    return Report(shape, TARGETS, timings, left_out)


def _warn_of_busy_engines(timings: Sequence[EngineTimings]) -> None:
    for each in timings:
        if each.idle_cpu_share > IDLE_CPU_SHARE:
            messages.warning(
                f"{each.engine} used {each.idle_cpu_share:.0%} of a core while the others ran with "
                f"{each.prompt_tokens} tokens: their speeds are too low"
            )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    parser.add_argument("--prompts", type=at_least(1), nargs="+", default=[256, 1500])
    parser.add_argument("--new-tokens", type=at_least(1), default=64)
    parser.add_argument("--engines", nargs="+", choices=LOADERS, default=list(LOADERS))
    add_rounds_and_output(parser, rounds=8)
    arguments = parse_with_store(parser)
    plan = Plan(tuple(arguments.prompts), arguments.new_tokens, arguments.rounds)
    if plan.context > (context_length := SHAPES[arguments.shape].context_length):
        raise BadArguments(
            f"prompt and new tokens are up to {plan.context} tokens, more than the model's context "
            f"of {context_length}: use shorter --prompts or fewer --new-tokens"
        )
    report = measure(arguments.shape, arguments.engines, plan)
    page.write(report, arguments.output, report.shape)
    speed_plot.draw(report).savefig(arguments.output / f"{report.shape}.png")
    messages.table(report.title, ["figure", *report.engines], report.rows())


if __name__ == "__main__":
    run_main(main)
