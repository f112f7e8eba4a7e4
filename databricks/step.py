"""Run one step as a task of a Databricks job: the file that a `spark_python_task` names.

python databricks/step.py SLMFLOW_HOME=/Volumes/main/default/slmflow convert target=cpu_int8

The arguments are environment variables, as for the command `env`, then the step and its overrides.
Each argument is split as a shell splits a line, so that one job parameter can hold several words.
"""

import os
import re
import runpy
import shlex
import sys
from itertools import takewhile
from pathlib import Path

# Databricks executes the text of this file in a kernel: only its code knows the file's path.
PROJECT = Path((lambda: None).__code__.co_filename).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from slmflow.console import messages  # noqa: E402 (the line above makes it importable)
from slmflow.errors import BadArguments  # noqa: E402
from slmflow.runtime.unknown_names import closest, did_you_mean  # noqa: E402

_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*=")


def split_words(arguments: list[str]) -> list[str]:
    """Return the words of all arguments. Raises BadArguments for an unclosed quote."""
    words = []
    for argument in arguments:
        try:
            words += shlex.split(argument)
        except ValueError as error:
            raise BadArguments(
                f"{argument!r} cannot be parsed ({error}): fix the quotes"
            ) from error
    return words


def split_command(words: list[str]) -> tuple[dict[str, str], str, list[str]]:
    """Return the environment variables, the step and its overrides.

    Raises BadArguments for an unknown step.
    """
    variables = list(takewhile(_VARIABLE.match, words))
    step, *overrides = words[len(variables) :] or [""]
    steps = sorted(file.stem for file in PROJECT.glob("steps/[!_]*.py"))
    if step not in steps:
        unknown = f"{step!r} is not a step.{did_you_mean(closest(step, steps))}"
        raise BadArguments(f"{unknown} Give one of {', '.join(steps)}, after the variables")
    return dict(variable.split("=", 1) for variable in variables), step, overrides


def main() -> None:
    """Run the step as `python -m` does, but return normally when it succeeds."""
    try:
        variables, step, overrides = split_command(split_words(sys.argv[1:]))
    except BadArguments as error:
        messages.error(str(error))
        sys.exit(error.exit_code)
    os.environ |= variables
    sys.argv[1:] = overrides
    try:
        runpy.run_module(f"steps.{step}", run_name="__main__")
    except SystemExit as end:
        if end.code:  # Databricks treats any SystemExit as a failure, also with status 0
            raise


if __name__ == "__main__":
    main()
