"""Compare how long this version and an earlier one take for the workflow, and for it again.

python -m benchmarks.workflow_time --before ../earlier --before-python ../earlier-env/bin/python \
    --rounds 3 --output docs/workflow

In each round both versions run, one after the other and each from an empty store and database: the
entry point `main` on the bundled model with its defaults, the same command again, and a sweep of 12
points. --before is a checkout of the earlier version, --before-python the interpreter of an
environment with its requirements. With --manager uv, `mlflow run` makes an environment in each
first run, as `make run` does; the default uses the given ones. --limit evaluates fewer rows.

Writes workflow_time.md and workflow_time.json with all raw values after each round. Run it on an
idle machine.
"""

import dataclasses
import json
import os
import subprocess
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from benchmarks.harness.command_line import add_rounds_and_output, create_parser, run_main
from benchmarks.harness.installation import CURRENT, Installation
from benchmarks.reports import page
from benchmarks.sweep import OVERRIDES
from slmflow.console import messages
from slmflow.errors import UserError
from slmflow.reports import markdown

KINDS = ("first", "again", "sweep")
_LABELS = {
    "first": "first run",
    "again": "second run, which reuses all",
    "sweep": "sweep of 12 points",
}


@dataclass(frozen=True)
class Duration:
    """Wall and CPU time of a command, in seconds; the CPU time is that of all its processes."""

    wall_s: float
    cpu_s: float


Round = Mapping[str, Duration]
"""The duration of each of `KINDS`."""


@dataclass(frozen=True)
class Report:
    """The rounds of both versions, which alternated; manager: that of the environments."""

    before: Sequence[Round]
    after: Sequence[Round]
    manager: str

    def rows(self) -> Iterator[list[str]]:
        """Yield a row per command, and one for the sweep beside the first run."""
        for kind in KINDS:
            for name, unit in (("wall_s", "s"), ("cpu_s", "s of CPU")):
                before, after = (_median(rounds, kind, name) for rounds in self._versions())
                yield [
                    f"{_LABELS[kind]}, {unit}",
                    f"{before:.1f}",
                    f"{after:.1f}",
                    f"{after / before:.2f}",
                ]
        ratios = [
            median(each["sweep"].wall_s / each["first"].wall_s for each in rounds)
            for rounds in self._versions()
        ]
        yield ["sweep beside the first run", *(f"{ratio:.2f}" for ratio in ratios), ""]

    def markdown(self) -> str:
        """Return the table with notes on machine and method."""
        notes = [
            page.setup_note([]).removesuffix(", "),
            f"medians of {len(self.after)} rounds, in which the versions alternate",
            "the bundled model with the defaults of each version, from an empty store and database",
            f"`mlflow run --env-manager {self.manager}`",
        ]
        table = markdown.table(["", "before", "after", "after / before"], self.rows())
        return page.render("The time of the workflow in two versions", table, notes)

    def json(self) -> str:
        """Return all rounds."""
        rounds = {
            name: [{kind: dataclasses.asdict(each[kind]) for kind in KINDS} for each in version]
            for name, version in zip(("before", "after"), self._versions(), strict=True)
        }
        return json.dumps(rounds | {"manager": self.manager} | page.setup_fields(), indent=2)

    def _versions(self) -> tuple[Sequence[Round], Sequence[Round]]:
        return self.before, self.after


def measure(before: Installation, options: Namespace) -> Iterator[Report]:
    """Yield the report after each round; the version that begins changes.

    Raises UserError if a command fails.
    """
    rounds: dict[str, list[Round]] = {"before": [], "after": []}
    versions = [("before", before), ("after", CURRENT)]
    for number in range(options.rounds):
        for name, installation in versions[:: -1 if number % 2 else 1]:
            rounds[name].append(_run_round(installation, options))
            walls = ", ".join(f"{k} {d.wall_s:.1f} s" for k, d in rounds[name][-1].items())
            messages.info(f"round {number + 1}, {name}: {walls}")
        yield Report(rounds["before"], rounds["after"], options.manager)


def _run_round(installation: Installation, options: Namespace) -> Round:
    rows = [] if options.limit is None else [f"evaluation.limit={options.limit}"]
    with tempfile.TemporaryDirectory() as main, tempfile.TemporaryDirectory() as sweep:
        return {
            "first": _time(installation, "main", rows, Path(main), options.manager),
            "again": _time(installation, "main", rows, Path(main), options.manager),
            # The environment of the first run serves the sweep.
            "sweep": _time(
                installation,
                "sweep",
                [*rows, *OVERRIDES],
                Path(sweep),
                options.manager,
                environments=Path(main),
            ),
        }


def _time(
    installation: Installation,
    entry_point: str,
    overrides: Sequence[str],
    folder: Path,
    manager: str,
    environments: Path | None = None,
) -> Duration:
    """Time a command whose database, store and artifacts are in a folder."""
    tool = installation.python.parent / "mlflow"
    settings = [part for override in overrides for part in ("-P", override)]
    command = [str(tool), "run", str(installation.project), "-e", entry_point]
    command += ["--env-manager", manager, *settings]
    log = folder / "log.txt"
    with log.open("w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(installation, folder, environments or folder),
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        end = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise UserError(f"{' '.join(command)} failed with status {process.returncode}:\n{end}")
    return Duration(wall_s, usage.ru_utime + usage.ru_stime)


def _environment(installation: Installation, folder: Path, environments: Path) -> Mapping[str, str]:
    """Return an environment like a new user's, with all that is written in a folder."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "SLMFLOW_"))}
    # Containers often set it; each process then compiles its imports again.
    inherited.pop("PYTHONDONTWRITEBYTECODE", None)
    inherited.pop("PYTHONPATH", None)
    return inherited | {
        "PATH": f"{installation.python.parent}{os.pathsep}{os.environ['PATH']}",
        "MLFLOW_TRACKING_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENV_ROOT": str(environments / "environments"),
        "SLMFLOW_HOME": str(folder / "home"),
    }


def _median(rounds: Sequence[Round], kind: str, name: str) -> float:
    return median(float(getattr(each[kind], name)) for each in rounds)


def main() -> None:
    """Run the benchmark with the arguments of the command line."""
    parser = create_parser(__doc__)
    add_rounds_and_output(parser, rounds=3)
    parser.add_argument("--before", type=Path, required=True, help="checkout to compare with")
    parser.add_argument("--before-python", type=Path, required=True, help="its interpreter")
    parser.add_argument("--manager", choices=("local", "uv"), default="local")
    parser.add_argument("--limit", type=int, help="the most rows to evaluate; default: all")
    options = parser.parse_args()
    before = Installation(options.before.absolute(), options.before_python.absolute())
    for report in measure(before, options):
        page.write(report, options.output, "workflow_time")
    messages.table("", ["", "before", "after", "after / before"], report.rows())


if __name__ == "__main__":
    run_main(main)
