"""Convert a checkpoint once, in this process; the benchmarks run this as a child process.

python -m benchmarks.harness.convert_once /checkpoint/folder /new/folder cpu_int4 optimum
"""

from pathlib import Path

from benchmarks.harness.command_line import create_parser, run_main
from slmflow.config import compose, config_keys
from slmflow.config.schema.target import ExporterName
from slmflow.conversion.convert import convert_model


def _main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("weights", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("target", choices=config_keys.groups()["target"])
    parser.add_argument("exporter", choices=[name.value for name in ExporterName])
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    config = compose.load([f"target={arguments.target}"])
    exporter = ExporterName(arguments.exporter)
    convert_model(arguments.weights, arguments.folder, config.target, exporter, config.calibration)


if __name__ == "__main__":
    run_main(_main)
