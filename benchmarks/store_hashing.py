"""Count the bytes that the workflow and a sweep hash, as a multiple of the size of the weights.

python -m benchmarks.store_hashing --output trial
python -m benchmarks.store_hashing --model /folder/of/smollm2 --project /older/checkout --output out

Each starts from an empty store and database: `main`, `main` again, and a sweep of 4 points. A hook
in every process counts what `hashlib` is given. The counts do not depend on the machine. Writes
store_hashing.md and store_hashing.json (bytes by process and file) to the output folder.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.harness.child_process import check_exit
from benchmarks.harness.command_line import create_parser, run_main
from slmflow.console import messages
from slmflow.paths import PROJECT
from slmflow.system import child_processes

HOOK = PROJECT / "benchmarks" / "harness" / "count_hashes"
POINTS = ("generation.temperature=0.0,0.3", "log_genai.interface=chat,prompt")


@dataclass(frozen=True)
class Counted:
    """What one command hashed: bytes in total, and by process and name of the file."""

    command: str
    total_bytes: int
    by_file: dict[str, int]


@dataclass(frozen=True)
class Workflow:
    """The project's folder, the model's folder and the overrides of all commands."""

    project: Path
    model: Path
    overrides: tuple[str, ...]

    @property
    def weights_bytes(self) -> int:
        """The size of the model's weights."""
        return sum(file.stat().st_size for file in self.model.glob("*.safetensors"))

    def count(self) -> list[Counted]:
        """Run the commands and return what each hashed. Raises UserError if one fails."""
        with tempfile.TemporaryDirectory() as main, tempfile.TemporaryDirectory() as sweep:
            return [
                self._run("main", (), Path(main)),
                self._run("main, again", (), Path(main)),
                self._run("sweep of 4 points", POINTS, Path(sweep)),
            ]

    def _run(self, name: str, overrides: tuple[str, ...], folder: Path) -> Counted:
        log = folder / "hashes"
        log.unlink(missing_ok=True)
        step = name.split(",")[0].split()[0]
        environment = child_processes.environment(
            MLFLOW_TRACKING_URI=f"sqlite:///{folder}/mlflow.db",
            SLMFLOW_HOME=str(folder / "home"),
            PYTHONPATH=os.pathsep.join([str(self.project), str(HOOK)]),
            COUNT_HASHES=str(log),
        )
        arguments = ("model=local", f"model.path={self.model}", *self.overrides, *overrides)
        line = [sys.executable, "-m", f"steps.{step}", *arguments]
        check_exit(line, subprocess.call(line, env=environment, cwd=folder))
        by_file: Counter[str] = Counter()
        for record in log.read_text().splitlines() if log.exists() else ():
            count, program, file = record.split("\t")
            by_file[f"{program}: {Path(file).name}"] += int(count)
        return Counted(name, sum(by_file.values()), dict(by_file.most_common()))


def markdown(workflow: Workflow, counts: list[Counted]) -> str:
    """Return the table of the counts."""
    size = workflow.weights_bytes
    lines = [
        f"Weights of {size / 1e6:,.1f} MB:",
        "",
        "| command | hashed, MB | of the weights' size |",
        "|---|---:|---:|",
        *(
            f"| {each.command} | {each.total_bytes / 1e6:,.1f} | {each.total_bytes / size:.2f} |"
            for each in counts
        ),
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the benchmark with the arguments of the command line."""
    parser = create_parser(__doc__)
    parser.add_argument("--model", type=Path, default=PROJECT / "bundled" / "tiny_phi3")
    parser.add_argument("--project", type=Path, default=PROJECT, help="another checkout to count")
    parser.add_argument("--limit", type=int, default=8, help="the rows to evaluate (%(default)s)")
    parser.add_argument("--target", default="cpu_int4", help="default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    options = parser.parse_args()
    overrides = (f"evaluation.limit={options.limit}", f"target={options.target}")
    workflow = Workflow(options.project.absolute(), options.model.absolute(), overrides)
    counts = workflow.count()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "store_hashing.md").write_text(markdown(workflow, counts))
    (options.output / "store_hashing.json").write_text(
        json.dumps([asdict(each) for each in counts], indent=2)
    )
    messages.info(markdown(workflow, counts))


if __name__ == "__main__":
    run_main(main)
