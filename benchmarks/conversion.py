"""Measure time and memory of a conversion, of random weights with the shape of a real model.

python -m benchmarks.conversion phi3_mini --output docs/conversion
python -m benchmarks.conversion phi3_mini --exporter builder --work /folder/with/room
python -m benchmarks.conversion tiny

Needs Linux. The weights are kept for the next time, the converted model is not. The files are
most likely in the page cache when the conversion begins: it is the work that is timed, not the
disk. With --output it writes SHAPE_TARGET_EXPORTER.json there.
"""

import dataclasses
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import child, process_tree
from benchmarks.harness.command_line import add_work, parser, run, use_store
from benchmarks.harness.process_tree import Usage
from benchmarks.models import prepared
from benchmarks.models.shapes import SHAPES
from slmflow.config import compose
from slmflow.config.schema.target import ExporterName
from slmflow.console import messages
from slmflow.pipeline import store
from slmflow.system import machine
from slmflow.system.child_processes import environment
from slmflow.system.git_state import git_state

EXPORTERS = [name.value for name in ExporterName]


@dataclass(frozen=True)
class Converted:
    """What a conversion took; onnx_bytes: graph and weights on disk."""

    shape: str
    target: str
    exporter: str
    usage: Usage
    onnx_bytes: int

    @property
    def name(self) -> str:
        """What was converted, and how."""
        return f"{self.shape}_{self.target}_{self.exporter}"

    def rows(self) -> list[list[str]]:
        """Return the figures as lines of a table; MB are 10^6 bytes."""
        usage = self.usage
        return [
            ["wall time", f"{usage.seconds:,.0f} s"],
            ["peak memory, largest process", f"{usage.peak_process_bytes / 1e6:,.0f} MB"],
            ["peak memory, all processes", f"{usage.peak_tree_bytes / 1e6:,.0f} MB"],
            ["graph and weights on disk", f"{self.onnx_bytes / 1e6:,.0f} MB"],
        ]

    def json(self) -> str:
        """Return all of it, with the machine."""
        made_by = {"machine": machine.description(), "git": git_state()}
        return json.dumps({**dataclasses.asdict(self), **made_by}, indent=2)


def measure(shape: str, target: str, exporter: ExporterName) -> Converted:
    """Convert in a process of its own; the weights are made first where they are not there yet.

    Raises UserError where it fails, after it has shown what was taken until then.
    """
    weights = prepared.weights(shape)
    with tempfile.TemporaryDirectory(dir=store.home()) as folder:
        line = child.command("harness.convert_once", weights, folder, target, exporter.value)
        usage = process_tree.run(line, environment())
        size = sum(file.stat().st_size for file in Path(folder).glob("*.onnx*"))
    converted = Converted(shape, target, exporter.value, usage, size)
    messages.table(converted.name, ["figure", "value"], converted.rows())
    child.refuse_failure(line, usage.status)
    return converted


def _main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("shape", choices=SHAPES)
    arguments.add_argument("--target", choices=compose.groups()["target"], default="cpu_int4")
    arguments.add_argument("--exporter", choices=EXPORTERS, default="optimum")
    arguments.add_argument("--output", type=Path, help="folder for the figures as JSON")
    add_work(arguments)
    given = arguments.parse_args()
    use_store(given.work)
    converted = measure(given.shape, given.target, ExporterName(given.exporter))
    if given.output:
        given.output.mkdir(parents=True, exist_ok=True)
        (given.output / f"{converted.name}.json").write_text(converted.json() + "\n")


if __name__ == "__main__":
    run(_main)
