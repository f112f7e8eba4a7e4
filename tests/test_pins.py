"""One list of pins: requirements.txt, constrained by what `make lock` resolved."""

import re
from typing import Any

import pytest
import yaml
from mlflow.utils.environment import _PythonEnv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_entry_points_take_the_groups_of_conf() -> None:
    project: dict[str, Any] = yaml.safe_load((PROJECT / "MLproject").read_text())
    groups = {folder.name for folder in (PROJECT / "conf").iterdir() if folder.is_dir()} - {"sweep"}
    further = {
        "serve": {"model_uri", "port"},
        "evaluate": {"model_uri"},
        "sweep": {"sweep"},
        "batch": {"model_uri", "input", "output"},
        "verify": {"model_uri"},
    }
    for name, entry in project["entry_points"].items():
        if name == "test":
            continue
        assert set(entry["parameters"]) == groups | further.get(name, set())
        assert entry["command"].startswith(f"python -m steps.{name} ")
        assert (PROJECT / "steps" / f"{name}.py").is_file()
        assert all(f"{group}={{{group}}}" in entry["command"] for group in groups)
