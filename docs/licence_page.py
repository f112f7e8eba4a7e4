"""Write docs/licences.md: the licences of all locked packages and configured models.

python -m docs.licence_page
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slmflow.config import compose as configs
from slmflow.config.config_keys import groups
from slmflow.config.schema.model import Model
from slmflow.paths import PROJECT
from slmflow.reports.markdown import table, text

PAGE = PROJECT / "docs" / "licences.md"
_LOCK_FILE = PROJECT / "constraints.txt"

# Choices of the group `model` that name no model; the user states the licence.
USER_MODELS = ("hub", "local", "mlflow")
_MODEL_COLUMNS = ("model", "from", "licence", "gated")
_PACKAGE_COLUMNS = ("package", "licence")

_INTRODUCTION = """# Licences

Written by `make licences`, checked by `make test`. slmflow itself is under Apache-2.0.

## Models

slmflow warns before it downloads a model that is gated or has an unknown licence. A model given
with `model=hub` has the licence that you set with `-P model.licence=...`; the logged models record
it.
"""
_PACKAGES = """
## Packages

The packages of `constraints.txt` that are installed here, with the licence in their own metadata;
`make audit` checks for known vulnerabilities.
"""
_NOT_INSTALLED = """
Locked for other platforms or for a GPU, and not checked:
"""


def build_page() -> str:
    """Return the page for the installed packages."""
    licences = installed_licences()
    packages = [(text(name), text(licence)) for name, licence in sorted(licences.items())]
    not_installed = ", ".join(sorted(locked_versions().keys() - licences.keys()))
    return "\n".join(
        [
            _INTRODUCTION,
            table(_MODEL_COLUMNS, [*_model_rows()], left_aligned=_MODEL_COLUMNS),
            _PACKAGES,
            table(_PACKAGE_COLUMNS, packages, left_aligned=_PACKAGE_COLUMNS),
            _NOT_INSTALLED,
            f"{not_installed}\n",
        ]
    )


def locked_versions() -> dict[str, str]:
    """Return the locked version of every package by its canonical name.

    A package locked at several versions has the one for this platform.
    """
    lines = [line for line in _LOCK_FILE.read_text().splitlines() if re.match(r"\w", line)]
    requirements = [Requirement(line) for line in lines]
    requirements.sort(key=lambda each: each.marker is None or each.marker.evaluate())
    return {canonicalize_name(each.name): str(each.specifier)[2:] for each in requirements}


def installed_licences() -> dict[str, str]:
    """Return the licence of each locked package that is installed in the locked version."""
    command = [sys.executable, "-m", "piplicenses", "--from=mixed", "--with-system", "--with-urls"]
    process = subprocess.run(
        [*command, "--format=json"], capture_output=True, text=True, check=True
    )
    versions = locked_versions()
    return {
        name: _licence(package)
        for package in json.loads(process.stdout)
        if (name := canonicalize_name(package["Name"])) in versions
        and package["Version"].partition("+")[0] == versions[name].partition("+")[0]
    }


def _licence(package: dict[str, str]) -> str:
    if package["License"] != "UNKNOWN":
        return package["License"]
    return f"not stated; the package contains its text ({package['URL']})"


def _model_rows() -> Iterator[tuple[str, str, str, str]]:
    for choice in groups()["model"]:
        if choice in USER_MODELS:
            continue
        model = configs.load([f"model={choice}"]).model
        gated = "yes" if model.gated else "no"
        yield f"`{choice}`", _origin(model), model.licence or "unknown", gated


def _origin(model: Model) -> str:
    return f"[{model.id}](https://huggingface.co/{model.id})" if model.id else f"`{model.path}`"


if __name__ == "__main__":
    PAGE.write_text(build_page())
