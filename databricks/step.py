"""Run one step as a task of a Databricks job: the file that a `spark_python_task` names.

python databricks/step.py SLMFLOW_HOME=/Volumes/main/default/slmflow convert target=cpu_int8

The arguments are those of `env`: variables of the environment, the step, and what the step takes.
Each is read as a shell reads a line, so that one parameter of a job can hold several words.
"""

import os
import re
import runpy
import shlex
import sys
from itertools import takewhile
from pathlib import Path

# Databricks executes the text of this file in a kernel: only its code knows where it lies.
PROJECT = Path((lambda: None).__code__.co_filename).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from slmflow.config.overrides import did_you_mean  # noqa: E402
from slmflow.console import messages  # noqa: E402 (found by the line above)
from slmflow.errors import BadArguments  # noqa: E402

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*=")


def words(arguments: list[str]) -> list[str]:
    """Return the words of all arguments. Raises BadArguments for a quote that is not closed."""
    found = []
    for argument in arguments:
        try:
            found += shlex.split(argument)
        except ValueError as error:
            raise BadArguments(f"{argument!r} cannot be read ({error}): quote it anew") from error
    return found


def parted(given: list[str]) -> tuple[dict[str, str], str, list[str]]:
    """Return the variables, the step and what it takes.

    Raises BadArguments where there is no step of that name.
    """
    variables = list(takewhile(_VARIABLE.match, given))
    step, *taken = given[len(variables) :] or [""]
    steps = sorted(file.stem for file in PROJECT.glob("steps/[!_]*.py"))
    if step not in steps:
        unknown = f"{step!r} is no step.{did_you_mean(step, steps)}"
        raise BadArguments(f"{unknown} Give one of {', '.join(steps)}, after the variables")
    return dict(variable.split("=", 1) for variable in variables), step, taken


def main() -> None:
    """Run the step as `python -m` does; where it ends well, return."""
    try:
        variables, step, taken = parted(words(sys.argv[1:]))
    except BadArguments as fault:
        messages.error(str(fault))
        sys.exit(fault.exit_code)
    os.environ |= variables
    sys.argv[1:] = taken
    try:
        runpy.run_module(f"steps.{step}", run_name="__main__")
    except SystemExit as ended:
        if ended.code:  # Databricks takes any exit, also a good one, for a failure
            raise


if __name__ == "__main__":
    main()
