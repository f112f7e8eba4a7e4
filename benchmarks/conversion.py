"""Measure time and memory of the conversion of random weights with the shape of a real model.

python -m benchmarks.conversion phi3_mini --output docs/conversion
python -m benchmarks.conversion phi3_mini --exporter builder --work /folder/with/room
python -m benchmarks.conversion tiny

Needs Linux. The weights stay in the store, the converted model does not. The files are most likely
in the page cache when the conversion starts, so the time is that of the work, not of the disk. With
--output, writes SHAPE_TARGET_EXPORTER.json there.
"""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import child_process, process_tree
from benchmarks.harness.command_line import create_parser, parse_with_store, run_main
from benchmarks.harness.installation import CURRENT
from benchmarks.harness.process_tree import Usage
from benchmarks.models import stored_models
from benchmarks.models.shapes import SHAPES
from benchmarks.reports import page
from slmflow.config import config_keys
from slmflow.config.schema.target import ExporterName
from slmflow.console import messages
from slmflow.pipeline import store
from slmflow.system.child_processes import environment

EXPORTERS = [name.value for name in ExporterName]


@dataclass(frozen=True)
class ConversionCost:
    """Time and memory of a conversion; onnx_bytes: size of graph and weights on disk."""

    shape: str
    target: str
    exporter: str
    usage: Usage
    onnx_bytes: int

    @property
    def name(self) -> str:
        """Shape, target and exporter."""
        return f"{self.shape}_{self.target}_{self.exporter}"

    def rows(self) -> list[list[str]]:
        """Return the rows of the table; MB are 10^6 bytes."""
        usage = self.usage
        return [
            ["wall time", f"{usage.seconds:,.0f} s"],
            ["peak memory, largest process", f"{usage.peak_process_bytes / 1e6:,.0f} MB"],
            ["peak memory, all processes", f"{usage.peak_tree_bytes / 1e6:,.0f} MB"],
            ["graph and weights on disk", f"{self.onnx_bytes / 1e6:,.0f} MB"],
        ]

    def json(self) -> str:
        """Return all values, with machine and git state."""
        return json.dumps({**dataclasses.asdict(self), **page.setup_fields()}, indent=2)


def measure(shape: str, target: str, exporter: ExporterName) -> ConversionCost:
    """Convert in a child process, after building the weights if they are missing.

    Raises UserError if the conversion fails, after showing its cost up to there.
    """
    weights = stored_models.random_weights(shape)
    with tempfile.TemporaryDirectory(dir=store.home()) as folder:
        command = CURRENT.command("harness.convert_once", weights, folder, target, exporter.value)
        usage = process_tree.run(command, environment())
        size = sum(file.stat().st_size for file in Path(folder).glob("*.onnx*"))
    cost = ConversionCost(shape, target, exporter.value, usage, size)
    messages.table(cost.name, ["figure", "value"], cost.rows())
    child_process.check_exit(command, usage.status)
    return cost


def _main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--target", choices=config_keys.groups()["target"], default="cpu_int4")
    parser.add_argument("--exporter", choices=EXPORTERS, default="optimum")
    parser.add_argument("--output", type=Path, help="folder for the JSON file")
    arguments = parse_with_store(parser)
    cost = measure(arguments.shape, arguments.target, ExporterName(arguments.exporter))
    if arguments.output:
        arguments.output.mkdir(parents=True, exist_ok=True)
        (arguments.output / f"{cost.name}.json").write_text(cost.json() + "\n")


if __name__ == "__main__":
    run_main(_main)
