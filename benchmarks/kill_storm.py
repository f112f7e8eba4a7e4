"""Kill every step at random moments, run it again each time, and look whether all is well.

python -m benchmarks.kill_storm --kills 50 --output docs/killed
python -m benchmarks.kill_storm --kills 2 --steps fetch --seed 7 --output trial

A kill is SIGKILL, to the step's process alone or to all that it has started, in turns by chance:
mostly while its run goes on, sometimes before it begins. What it should make is removed before, so
that there is work to end. The next run must end well, with the result of a run that nobody ended;
then no run is RUNNING, no model PENDING, the store is whole, and nothing is left in it, in the
temporary files or among the processes. Writes killed.md and killed.json to the output folder.
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
from benchmarks.fault_injection.killing import Place, Process
from benchmarks.harness.command_line import parser, run
from slmflow.console import messages
from slmflow.errors import BadArguments, UserError
from slmflow.system import machine

_BEFORE_THE_RUN = 0.2
"""The part of the kills that may come at any moment, also before a run has begun."""

_END_S = 60.0
"""How long what a killed process had started may take to end."""

_MADE = {"fetch": "weights", "convert": "onnx"}


@dataclass(frozen=True)
class Undisturbed:
    """A run that nobody ended: what it made, when its MLflow run began, and when it ended."""

    told: Any
    began_s: float
    ended_s: float


@dataclass(frozen=True)
class Kill:
    """One kill, and what was found wrong after the next run."""

    step: str
    after_s: float
    all_of_it: bool
    faults: tuple[str, ...]


def storm(place: Place, given: Namespace) -> list[Kill]:
    """Kill steps in turns, as often as the command line says; return how each ended."""
    chance = random.Random(given.seed)  # noqa: S311
    overrides = [f"evaluation.limit={given.limit}"]
    undisturbed = {step: _undisturbed(place, step, overrides) for step in given.steps}
    temporary = [*place.temp.iterdir()]
    kills: list[Kill] = []
    while len(kills) < given.kills:
        step = given.steps[len(kills) % len(given.steps)]
        kill = _kill(place, step, overrides, undisturbed[step], chance)
        if kill is not None:
            kill = replace(kill, faults=(*kill.faults, *checks.faults(place, temporary)))
            kills.append(kill)
            messages.say(f"{len(kills)}: {_sentence(kill)}")
            (given.output / "killed.json").write_text(
                json.dumps(
                    {"seed": given.seed, "kills": [asdict(each) for each in kills]}, indent=2
                )
            )
    return kills


def _undisturbed(place: Place, step: str, overrides: list[str]) -> Undisturbed:
    if not all(place.has(each) for each in checks.STEPS[: checks.STEPS.index(step)]):
        Process(place, step, overrides).finish()  # it makes what it needs
    _remove(place, step)
    started = time.time()
    Process(place, step, overrides).finish()
    ended = time.time()
    began = checks.run_began_after(place.newest(step), started)
    messages.say(f"{step} takes {ended - started:.1f} s, its run begins after {began:.1f} s")
    return Undisturbed(checks.told(place, step), began, ended - started)


def _kill(
    place: Place, step: str, overrides: list[str], usual: Undisturbed, chance: random.Random
) -> Kill | None:
    """Kill a step once and run it again; None where it had ended before."""
    first = 0.0 if chance.random() < _BEFORE_THE_RUN else 0.9 * usual.began_s
    after, all_of_it = chance.uniform(first, usual.ended_s), chance.random() < 0.5
    _remove(place, step)
    process = Process(place, step, overrides)
    if not process.kill_at(after, all_of_it=all_of_it):
        return None
    found = []
    try:
        Process(place, step, overrides).finish()
        if checks.told(place, step) != usual.told:
            found.append("the next run made something else than one that nobody ended")
    except UserError as fault:
        found.append(f"the next run: {fault}")
    found += [f"left: {line}" for line in process.left(_END_S)]
    return Kill(step, round(after, 2), all_of_it, tuple(found))


def _remove(place: Place, step: str) -> None:
    if step in _MADE:
        shutil.rmtree(place.home / _MADE[step], ignore_errors=True)


def _sentence(kill: Kill) -> str:
    what = "all of" if kill.all_of_it else "the process of"
    wrong = "; ".join(kill.faults) or "well"
    return f"{what} {kill.step} killed after {kill.after_s:.1f} s: {wrong}"


def markdown(seed: int, kills: list[Kill]) -> str:
    """Return a table with a line for each step."""
    lines = [
        f"{len(kills)} kills by seed {seed} on {machine.description()}:",
        "",
        "| step | kills | of the process alone | of all it started | next run well, nothing left |",
        "|---|---:|---:|---:|---:|",
    ]
    for step in dict.fromkeys(kill.step for kill in kills):
        own = [kill for kill in kills if kill.step == step]
        together = sum(kill.all_of_it for kill in own)
        well = sum(not kill.faults for kill in own)
        lines.append(
            f"| `{step}` | {len(own)} | {len(own) - together} | {together} | {well} of {len(own)} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Kill what the command line says. Raises UserError where anything was found wrong."""
    given = _given()
    given.output.mkdir(parents=True, exist_ok=True)
    messages.say(f"seed {given.seed}")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.use()
        kills = storm(place, given)
    (given.output / "killed.md").write_text(markdown(given.seed, kills))
    messages.say(markdown(given.seed, kills))
    if wrong := [_sentence(kill) for kill in kills if kill.faults]:
        raise UserError("\n".join(wrong))


def _given() -> Namespace:
    arguments = parser(__doc__)
    arguments.add_argument("--kills", type=int, default=50, help="(%(default)s)")
    arguments.add_argument("--steps", nargs="+", choices=checks.STEPS)
    arguments.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    arguments.add_argument("--limit", type=int, default=2, help="of the rows (%(default)s)")
    arguments.add_argument("--output", type=Path, required=True, help="folder for the results")
    given = arguments.parse_args()
    if given.kills < 1:
        raise BadArguments("--kills must be at least 1")
    given.steps = given.steps or list(checks.STEPS)
    given.output = given.output.absolute()
    return given


if __name__ == "__main__":
    run(main)
