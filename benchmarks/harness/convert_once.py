"""Convert a snapshot folder once, in this process: what the benchmarks start as a child.

python -m benchmarks.harness.convert_once /folder/of/weights /folder/to/make cpu_int4 optimum
"""

from pathlib import Path

from benchmarks.harness.command_line import parser, run
from slmflow.config import compose
from slmflow.config.schema.target import ExporterName
from slmflow.conversion.convert import convert_model


def _main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("weights", type=Path)
    arguments.add_argument("folder", type=Path)
    arguments.add_argument("target", choices=compose.groups()["target"])
    arguments.add_argument("exporter", choices=[name.value for name in ExporterName])
    given = arguments.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    target = compose.load([f"target={given.target}"]).target
    convert_model(given.weights, given.folder, target, ExporterName(given.exporter))


if __name__ == "__main__":
    run(_main)
