"""One list of pins: requirements.txt, constrained by what `make lock` resolved."""

import re
from typing import Any

import pytest
import yaml
from mlflow.utils.environment import _PythonEnv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slmflow.config.compose import load
from slmflow.config.config_keys import kinds
from slmflow.paths import PROJECT


def _requirements(name: str) -> dict[str, str]:
    lines = (PROJECT / name).read_text().splitlines()
    found = [Requirement(line) for line in lines if re.match(r"\w", line)]
    return {canonicalize_name(r.name): str(r.specifier) for r in found}


DIRECT = _requirements("requirements.txt")
LOCKED = _requirements("constraints.txt")


@pytest.mark.parametrize("package", sorted(DIRECT))
def test_every_direct_pin_is_exact_and_locked(package: str) -> None:
    assert re.fullmatch(r"==[\w.]+", DIRECT[package])
    assert LOCKED[package] == DIRECT[package]


def test_every_locked_version_is_exact() -> None:
    assert all(re.fullmatch(r"==[\w.]+", version) for version in LOCKED.values())


def test_conda_and_python_env_carry_the_same_pins() -> None:
    """As MLflow itself reads the two files."""
    python = _PythonEnv.from_yaml(PROJECT / "python_env.yaml")
    conda = _PythonEnv.from_conda_yaml(PROJECT / "conda.yaml")

    assert (python.python, python.dependencies) == (conda.python, conda.dependencies)
    assert python.dependencies == ["-r requirements.txt"]
    assert "-c constraints.txt" in (PROJECT / "requirements.txt").read_text().splitlines()


def test_no_lock_file_of_uv_replaces_them() -> None:
    """MLflow's uv manager takes a uv.lock in place of python_env.yaml without a word."""
    assert not (PROJECT / "uv.lock").exists()


def test_entry_points_run_their_steps_with_short_names() -> None:
    project: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text())
    for name, entry in project["entry_points"].items():
        if name == "test":
            continue
        module, *overrides = entry["command"].removeprefix("python -m ").split()
        assert (PROJECT / f"{module.replace('.', '/')}.py") == PROJECT / "steps" / f"{name}.py"
        assert (PROJECT / "steps" / f"{name}.py").is_file()
        parameters = entry.get("parameters", {})
        keys = {override.partition("=")[0] for override in overrides}
        assert {key.rpartition(".")[2] for key in keys} == set(parameters)
        assert keys <= set(kinds())
        load([override.format(**_defaults(parameters)) for override in overrides])


def _defaults(parameters: dict[str, Any]) -> dict[str, str]:
    return {name: parameter["default"] for name, parameter in parameters.items()}
