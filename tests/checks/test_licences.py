"""docs/licences.md against what is installed, and what is configured."""

import re

from packaging.licenses import canonicalize_license_expression

from checks.licences import PAGE, locked, of_packages
from slmflow.config import compose as configs
from slmflow.reports.markdown import text

LINES = PAGE.read_text().splitlines()


def test_each_installed_package_is_listed_with_its_licence() -> None:
    """Written by `make licences`."""
    licences = of_packages()
    assert licences["mlflow"] == "Apache Software License"
    lacking = {
        name: licence
        for name, licence in licences.items()
        if f"| {text(name)} | {text(licence)} |" not in LINES
        and name not in LINES[-1].split(", ")  # installed here, not where the page was written
    }
    assert not lacking


def test_what_is_listed_is_what_is_locked() -> None:
    start = LINES.index("## Packages")
    rows = [line.split(" ")[1] for line in LINES[start:] if re.match(r"\| \w", line)][1:]
    assert sorted([*rows, *LINES[-1].split(", ")]) == sorted(locked())


def test_each_configured_model_is_listed_with_a_licence_that_has_a_name() -> None:
    of_the_hub = {"llama3.2"}  # no SPDX id: https://huggingface.co/docs/hub/repositories-licenses
    for choice in configs.groups()["model"]:
        if choice in ("hub", "local"):
            continue
        model = configs.load([f"model={choice}"]).model
        gated = "yes" if model.gated else "no"
        [row] = [line for line in LINES if line.startswith(f"| `{choice}` |")]
        assert row.endswith(f" | {model.licence} | {gated} |")
        assert model.licence is not None
        if model.licence not in of_the_hub:
            assert canonicalize_license_expression(model.licence) == model.licence
