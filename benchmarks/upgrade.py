"""Compare this version of the project with an earlier one, such as before a move of the pins.

python -m benchmarks.upgrade --before ../earlier --before-python ../earlier-env/bin/python \
    --output docs/upgrade

Converts the same random weights with both, in alternating rounds, and generates with both models,
one turn after the other. --before is a checkout of the earlier version, --before-python the
interpreter of an environment with its requirements. Writes SHAPE.md and SHAPE.json. Needs Linux.
Nothing else should run at the same time.
"""

import dataclasses
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.harness import child_process, engine_rounds, paired_rounds, process_tree
from benchmarks.harness.command_line import (
    add_rounds_and_output,
    at_least,
    create_parser,
    parse_with_store,
    run_main,
)
from benchmarks.harness.engine_process import EngineModel
from benchmarks.harness.engine_rounds import Plan
from benchmarks.harness.installation import CURRENT, Installation
from benchmarks.harness.process_tree import Usage
from benchmarks.harness.timings import METRICS, EngineTimings, ratio_of_medians
from benchmarks.models import stored_models
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page
from slmflow.config.schema.target import ExporterName
from slmflow.console import messages
from slmflow.pipeline import store
from slmflow.reports import markdown

# The target that is the same in every version.
TARGET, EXPORTER = "cpu_int8", ExporterName.optimum


@dataclass(frozen=True)
class Report:
    """Cost of each conversion and timings of both models, before and after."""

    shape: str
    conversions: dict[str, Sequence[Usage]]
    timings: Sequence[EngineTimings]

    def rows(self) -> Iterator[list[str]]:
        """Yield a row per statistic: both medians and the ratio of after to before."""
        before, after = self.conversions["before"], self.conversions["after"]
        yield _row("conversion, s", [u.seconds for u in before], [u.seconds for u in after])
        yield _row(
            "conversion, peak memory, MB",
            [usage.peak_tree_bytes / 1e6 for usage in before],
            [usage.peak_tree_bytes / 1e6 for usage in after],
        )
        for length in dict.fromkeys(timings.prompt_tokens for timings in self.timings):
            first, second = (
                next(t for t in self.timings if (t.engine, t.prompt_tokens) == (name, length))
                for name in self.conversions
            )
            for metric in METRICS:
                label = f"{metric.name} (prompt {length})"
                yield _row(label, metric.values(first), metric.values(second))

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        table = markdown.table(["figure", "before", "after", "after / before"], self.rows())
        rounds = len(self.conversions["after"]), len(self.timings[0].prefill_s)
        notes = [
            page.setup_note([]).removesuffix(", "),
            f"medians of {rounds[0]} conversions and {rounds[1]} texts each, in alternating rounds",
            *(f"{t.engine}: {t.description}" for t in self.timings[: len(self.conversions)]),
        ]
        return page.render(f"Two versions with {self.shape} at {TARGET}", table, notes)

    def json(self) -> str:
        """Return every raw value."""
        fields = {
            "shape": self.shape,
            "conversions": {
                name: [dataclasses.asdict(usage) for usage in usages]
                for name, usages in self.conversions.items()
            },
            "series": [dataclasses.asdict(timings) for timings in self.timings],
        }
        return json.dumps(fields | page.setup_fields(), indent=2)


def measure(shape: str, before: Installation, plan: Plan, conversions: int) -> Report:
    """Convert and generate with both installations. Raises UserError if a process fails."""
    weights = stored_models.random_weights(shape)
    installations = {"before": before, "after": CURRENT}
    with tempfile.TemporaryDirectory(dir=store.home()) as scratch:

        def convert(name: str, number: int) -> Usage:
            folder = Path(scratch) / f"{name}{number}"
            command = installations[name].command(
                "harness.convert_once", weights, folder / "onnx", TARGET, EXPORTER.value
            )
            usage = process_tree.run(command, installations[name].environment())
            child_process.check_exit(command, usage.status)
            return usage

        first, second = paired_rounds.alternate(
            "conversion",
            lambda number: convert("before", number),
            lambda number: convert("after", number),
            conversions,
        )
        models = {
            name: EngineModel("slmflow", Path(scratch) / f"{name}0" / "onnx", installation)
            for name, installation in installations.items()
        }
        timings = engine_rounds.measure(models, plan)
    return Report(shape, {"before": first, "after": second}, timings)


def _row(label: str, before: Sequence[float], after: Sequence[float]) -> list[str]:
    ratio = ratio_of_medians(after, before)
    cells = [f"{median(values):,.0f}" if values else "-" for values in (before, after)]
    return [label, *cells, "-" if ratio is None else f"{ratio:.2f}"]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--before-python", type=Path, required=True, help="its interpreter")
    parser.add_argument("--shape", choices=SHAPES, default="phi3_220m")
    parser.add_argument("--prompts", type=at_least(1), nargs="+", default=[256])
    parser.add_argument("--new-tokens", type=at_least(1), default=64)
    parser.add_argument("--conversions", type=at_least(1), default=3, help="timed rounds")
    add_rounds_and_output(parser, rounds=8)
    arguments = parse_with_store(parser)
    before = Installation(arguments.before.absolute(), arguments.before_python.absolute())
    plan = Plan(tuple(arguments.prompts), arguments.new_tokens, arguments.rounds)
    report = measure(arguments.shape, before, plan, arguments.conversions)
    page.write(report, arguments.output, report.shape)
    messages.table("before and after", ["figure", "before", "after", "ratio"], report.rows())


if __name__ == "__main__":
    run_main(main)
