"""A checkout of the project with the Python environment that runs it."""

import sys
from dataclasses import dataclass
from pathlib import Path

from slmflow.paths import PROJECT
from slmflow.system.child_processes import environment


@dataclass(frozen=True)
class Installation:
    """project: folder of the checkout; python: interpreter of its environment."""

    project: Path
    python: Path

    def command(self, module: str, *arguments: object) -> list[str]:
        """Return the command of `python -m benchmarks.MODULE` with arguments."""
        return [str(self.python), "-m", f"benchmarks.{module}", *map(str, arguments)]

    def environment(self) -> dict[str, str]:
        """Return an environment in which a process and its children import this checkout.

        PYTHONSAFEPATH: the modules of the working folder do not take precedence.
        """
        return environment() | {"PYTHONPATH": str(self.project), "PYTHONSAFEPATH": "1"}


CURRENT = Installation(PROJECT, Path(sys.executable))
"""The installation that runs this process."""
