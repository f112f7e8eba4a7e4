"""The clients' environments: one per file of `requirements`, and one for JavaScript."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from slmflow.paths import PROJECT

FOLDER = Path(__file__).parent
REQUIREMENTS = FOLDER / "requirements"
DEFAULT_HOME = PROJECT / ".venv" / "clients"

_OFF = {
    "AGENTS_DISABLE_TRACING": "1",
    "ANONYMIZED_TELEMETRY": "False",
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_TELEMETRY": "False",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "SMOLAGENTS_TELEMETRY": "0",
    "TRANSFORMERS_OFFLINE": "1",
}
# Nothing listens there: a client that asks another host than this one gets an error.
_NOWHERE = "http://127.0.0.1:9"


def variables(home: Path) -> dict[str, str]:
    """Return a client's environment variables: no telemetry, no network, no file of the user."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "NO_PROXY": "127.0.0.1,localhost",
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE),
        **_OFF,
    }


@dataclass(frozen=True)
class Environments:
    """Environments that are made when they are first needed, in a folder."""

    home: Path

    def command(self, environment: str, script: str) -> list[str]:
        """Return the command that runs a script of cells in an environment.

        environment: the name of a requirements file, `node`, or `project` for this process' own.
        """
        if environment == "node":
            return ["node", str(self._node() / script)]
        path = str(FOLDER / "cells" / script)
        python = sys.executable if environment == "project" else str(self._python(environment))
        return [python, path]

    def _python(self, name: str) -> Path:
        folder = self.home / name
        python = folder / "bin" / "python"
        uv = [sys.executable, "-m", "uv"]
        if not python.exists():
            subprocess.run([*uv, "venv", "--quiet", "--python", "3.11", folder], check=True)
        file = REQUIREMENTS / f"{name}.txt"
        install = ["pip", "install", "--quiet", "--python", folder, "--requirement", file]
        subprocess.run([*uv, *install], check=True)
        return python

    def _node(self) -> Path:
        """Install the packages beside a copy of the scripts, where they look for them."""
        folder = self.home / "node"
        folder.mkdir(parents=True, exist_ok=True)
        for file in (FOLDER / "js").iterdir():
            shutil.copyfile(file, folder / file.name)
        digest = hashlib.sha256((folder / "package-lock.json").read_bytes()).hexdigest()
        done = folder / "installed"
        if not done.exists() or done.read_text() != digest:
            command = ["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"]
            subprocess.run(command, cwd=folder, check=True)
            done.write_text(digest)
        return folder


def version(environment: str, package: str) -> str:
    """Return the pinned version of a package of an environment."""
    if environment == "project":
        lines = (PROJECT / "requirements.txt").read_text().splitlines()
    else:
        lines = (REQUIREMENTS / f"{environment}.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return next(value for name, value in pins.items() if name.split("[")[0] == package)
