"""Kill every step at random moments, run it again each time, and check the outcome.

python -m benchmarks.kill_storm --kills 50 --output docs/killed
python -m benchmarks.kill_storm --kills 2 --steps fetch --seed 7 --output trial

A kill is SIGKILL, at random to the step's process alone or to its whole session, mostly during its
run, sometimes before that begins. The step's output is deleted first, so that it has work to do;
`main` makes all results anew, in forked processes. The next run must succeed with the same output
as an undisturbed run. Then no run is RUNNING, no model is PENDING, the store is intact, and nothing
is left in the store, among the temporary files or among the processes. Writes killed.md and
killed.json to the output folder.
"""

import json
import random
import shutil
import tempfile
import time
from argparse import Namespace
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.fault_injection import checks
from benchmarks.fault_injection.sandbox import Sandbox
from benchmarks.fault_injection.step_process import StepProcess
from benchmarks.harness.command_line import create_parser, run_main
from slmflow.console import messages
from slmflow.errors import BadArguments, UserError
from slmflow.system import machine

_EARLY_SHARE = 0.2
"""Share of the kills that may come before the run begins."""

_SURVIVAL_TIMEOUT_S = 60.0
"""Time in which the children of a killed process must exit."""

_STORE_FOLDERS = {"fetch": "weights", "convert": "onnx"}


@dataclass(frozen=True)
class UndisturbedRun:
    """The output of a step that was not killed, and when its MLflow run began and ended."""

    output: Any
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Kill:
    """One kill, and the faults after the next run."""

    step: str
    after_s: float
    whole_session: bool
    faults: tuple[str, ...]


def run_storm(sandbox: Sandbox, arguments: Namespace) -> list[Kill]:
    """Kill the steps in turn, as often as the command line says; return all kills."""
    rng = random.Random(arguments.seed)  # noqa: S311
    overrides = [f"evaluation.limit={arguments.limit}"]
    undisturbed = {step: _run_undisturbed(sandbox, step, overrides) for step in arguments.steps}
    temporary_files = [*sandbox.temp.iterdir()]
    kills: list[Kill] = []
    while len(kills) < arguments.kills:
        step = arguments.steps[len(kills) % len(arguments.steps)]
        kill = _kill(sandbox, step, overrides, undisturbed[step], rng)
        if kill is not None:
            faults = (*kill.faults, *checks.find_faults(sandbox, temporary_files))
            kills.append(replace(kill, faults=faults))
            messages.info(f"{len(kills)}: {_describe(kills[-1])}")
            report = {"seed": arguments.seed, "kills": [asdict(each) for each in kills]}
            (arguments.output / "killed.json").write_text(json.dumps(report, indent=2))
    return kills


def _run_undisturbed(sandbox: Sandbox, step: str, overrides: list[str]) -> UndisturbedRun:
    overrides = _with_work(step, overrides)
    earlier_steps = checks.STEPS[: checks.STEPS.index(step)]
    if not all(sandbox.has_finished(each) for each in earlier_steps):
        StepProcess(sandbox, step, overrides).finish()  # runs the earlier steps too
    _delete_output(sandbox, step)
    started = time.time()
    StepProcess(sandbox, step, overrides).finish()
    seconds = time.time() - started
    began = float(sandbox.newest_run(step).info.start_time) / 1e3 - started
    messages.info(f"{step} takes {seconds:.1f} s; its run begins after {began:.1f} s")
    return UndisturbedRun(checks.read_output(sandbox, step), began, seconds)


def _kill(
    sandbox: Sandbox,
    step: str,
    overrides: list[str],
    undisturbed: UndisturbedRun,
    rng: random.Random,
) -> Kill | None:
    """Kill a step once and run it again; None if the step exits before the kill."""
    overrides = _with_work(step, overrides)
    earliest = 0.0 if rng.random() < _EARLY_SHARE else 0.9 * undisturbed.began_s
    after, whole_session = rng.uniform(earliest, undisturbed.ended_s), rng.random() < 0.5
    _delete_output(sandbox, step)
    process = StepProcess(sandbox, step, overrides)
    if not process.kill_after(after, whole_session=whole_session):
        return None
    faults = []
    try:
        StepProcess(sandbox, step, overrides).finish()
        if checks.read_output(sandbox, step) != undisturbed.output:
            faults.append("the output of the next run differs from that of an undisturbed run")
    except UserError as error:
        faults.append(f"the next run failed: {error}")
    faults += [f"still alive: {line}" for line in process.surviving_commands(_SURVIVAL_TIMEOUT_S)]
    return Kill(step, round(after, 2), whole_session, tuple(faults))


def _with_work(step: str, overrides: list[str]) -> list[str]:
    return [*overrides, "fresh=[all]"] if step == checks.MAIN else overrides


def _delete_output(sandbox: Sandbox, step: str) -> None:
    if step in _STORE_FOLDERS:
        shutil.rmtree(sandbox.home / _STORE_FOLDERS[step], ignore_errors=True)


def _describe(kill: Kill) -> str:
    target = "session" if kill.whole_session else "process"
    outcome = "; ".join(kill.faults) or "no fault"
    return f"{kill.step}: {target} killed after {kill.after_s:.1f} s: {outcome}"


def markdown(seed: int, kills: list[Kill]) -> str:
    """Return a table with a line for each step."""
    lines = [
        f"{len(kills)} kills with seed {seed} on {machine.description()}:",
        "",
        "| step | kills | of the process alone | of the whole session | without fault |",
        "|---|---:|---:|---:|---:|",
    ]
    for step in dict.fromkeys(kill.step for kill in kills):
        of_step = [kill for kill in kills if kill.step == step]
        count, sessions = len(of_step), sum(kill.whole_session for kill in of_step)
        clean = sum(not kill.faults for kill in of_step)
        lines.append(f"| `{step}` | {count} | {count - sessions} | {sessions} | {clean} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the storm. Raises UserError if any kill led to a fault."""
    arguments = _parse_arguments()
    arguments.output.mkdir(parents=True, exist_ok=True)
    messages.info(f"seed {arguments.seed}")
    with tempfile.TemporaryDirectory() as folder:
        sandbox = Sandbox(Path(folder))
        sandbox.activate()
        kills = run_storm(sandbox, arguments)
    report = markdown(arguments.seed, kills)
    (arguments.output / "killed.md").write_text(report)
    messages.info(report)
    if faults := [_describe(kill) for kill in kills if kill.faults]:
        raise UserError("\n".join(faults))


def _parse_arguments() -> Namespace:
    parser = create_parser(__doc__)
    parser.add_argument("--kills", type=int, default=50, help="number of kills (%(default)s)")
    parser.add_argument("--steps", nargs="+", choices=checks.STEPS)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--limit", type=int, default=2, help="number of rows (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    arguments = parser.parse_args()
    if arguments.kills < 1:
        raise BadArguments("--kills must be at least 1")
    arguments.steps = arguments.steps or list(checks.STEPS)
    arguments.output = arguments.output.absolute()
    return arguments


if __name__ == "__main__":
    run_main(main)
