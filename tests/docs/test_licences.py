"""docs/licences.md, compared with the installed packages and the configured models."""

import re

from packaging.licenses import canonicalize_license_expression

from docs.licence_page import PAGE, USER_MODELS, installed_licences, locked_versions
from slmflow.config import compose as configs
from slmflow.config.config_keys import groups
from slmflow.reports.markdown import text

LINES = PAGE.read_text().splitlines()
NOT_INSTALLED = LINES[-1].split(", ")


def test_installed_packages_are_listed_with_their_licences() -> None:
    """If not, run `make licences`."""
    licences = installed_licences()
    assert licences["mlflow"] == "Apache Software License"
    missing = {
        name: licence
        for name, licence in licences.items()
        if f"| {text(name)} | {text(licence)} |" not in LINES
        and name not in NOT_INSTALLED  # installed here, but not where the page was written
    }
    assert not missing


def test_listed_packages_are_the_locked_ones() -> None:
    start = LINES.index("## Packages")
    rows = [line.split(" ")[1] for line in LINES[start:] if re.match(r"\| \w", line)][1:]
    assert sorted([*rows, *NOT_INSTALLED]) == sorted(locked_versions())


def test_configured_models_are_listed_with_a_known_licence() -> None:
    # Not in SPDX: huggingface.co/docs/hub/repositories-licenses, and the name on LFM2.5's card.
    hub_licences = {"gemma", "llama3.2", "lfm1.0"}
    for choice in groups()["model"]:
        if choice in USER_MODELS:
            continue
        model = configs.load([f"model={choice}"]).model
        gated = "yes" if model.gated else "no"
        [row] = [line for line in LINES if line.startswith(f"| `{choice}` |")]
        assert row.endswith(f" | {model.licence} | {gated} |")
        assert model.licence is not None
        if model.licence not in hub_licences:
            assert canonicalize_license_expression(model.licence) == model.licence
