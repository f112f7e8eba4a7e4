"""The licences of every locked package and configured model, as docs/licences.md lists them.

python -m checks.licences
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slmflow.config import compose as configs
from slmflow.config import config_keys
from slmflow.config.schema.model import Model
from slmflow.paths import PROJECT
from slmflow.reports.markdown import table, text

PAGE = PROJECT / "docs" / "licences.md"
_LOCK = PROJECT / "constraints.txt"

# Which model they are, and so its licence, is left to the user.
_ANY = ("hub", "local")
_MODEL = ("model", "from", "licence", "gated")
_PACKAGE = ("package", "licence")

_INTRODUCTION = """# Licences

Written by `make licences`, checked by `make test`. slmflow itself is under Apache-2.0.

## Models

Before it downloads one that is gated, or whose licence is unknown, slmflow says so. What you give
as `model=hub` has the licence that you name with `-P model.licence=...`; it goes into the logged
models.
"""
_PACKAGES = """
## Packages

Each of `constraints.txt` that is installed here, by its own metadata; `make audit` asks for known
vulnerabilities.
"""
_ELSEWHERE = """
Locked for other platforms, or for a GPU, and not looked at:
"""


def page() -> str:
    """Return the page for what is installed here."""
    licences = of_packages()
    models = [*_models()]
    rows = [(text(name), text(licence)) for name, licence in sorted(licences.items())]
    elsewhere = ", ".join(sorted(locked().keys() - licences.keys()))
    return "\n".join(
        [
            _INTRODUCTION,
            table(_MODEL, models, left_aligned=_MODEL),
            _PACKAGES,
            table(_PACKAGE, rows, left_aligned=_PACKAGE),
            _ELSEWHERE,
            f"{elsewhere}\n",
        ]
    )


def locked() -> dict[str, str]:
    """Return the locked version of every package by its normal name, this platform's of several."""
    lines = [line for line in _LOCK.read_text().splitlines() if re.match(r"\w", line)]
    found = [Requirement(line) for line in lines]
    found.sort(key=lambda each: each.marker is None or each.marker.evaluate())
    return {canonicalize_name(each.name): str(each.specifier)[2:] for each in found}


def of_packages() -> dict[str, str]:
    """Return the licence of each locked package that is installed here in the locked version."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--with-system", "--with-urls"]
    done = subprocess.run([*command, "--format=json"], capture_output=True, text=True, check=True)
    versions = locked()
    return {
        name: _named(each)
        for each in json.loads(done.stdout)
        if (name := canonicalize_name(each["Name"])) in versions
        and each["Version"].partition("+")[0] == versions[name].partition("+")[0]
    }


def _named(package: dict[str, str]) -> str:
    if package["License"] != "UNKNOWN":
        return package["License"]
    return f"not named, its text comes with it ({package['URL']})"


def _models() -> Iterator[tuple[str, str, str, str]]:
    for choice in config_keys.groups()["model"]:
        if choice in _ANY:
            continue
        model = configs.load([f"model={choice}"]).model
        yield (
            f"`{choice}`",
            _origin(model),
            model.licence or "unknown",
            "yes" if model.gated else "no",
        )


def _origin(model: Model) -> str:
    return f"[{model.id}](https://huggingface.co/{model.id})" if model.id else f"`{model.path}`"


if __name__ == "__main__":
    PAGE.write_text(page())
