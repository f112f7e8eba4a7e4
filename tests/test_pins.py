"""The pins of requirements.txt and constraints.txt, and the entry points of MLproject."""

import re
from typing import Any

import yaml
from mlflow.utils.environment import _PythonEnv
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from slmflow.config.compose import load
from slmflow.config.config_keys import kinds
from slmflow.paths import PROJECT


def _requirements(name: str) -> dict[str, str]:
    lines = (PROJECT / name).read_text().splitlines()
    requirements = [Requirement(line) for line in lines if re.match(r"\w", line)]
    return {canonicalize_name(r.name): str(r.specifier) for r in requirements}


DIRECT = _requirements("requirements.txt")
LOCKED = _requirements("constraints.txt")


def test_pins_are_exact_and_direct_ones_are_locked() -> None:
    assert all(re.fullmatch(r"==[\w.]+", version) for version in LOCKED.values())
    assert DIRECT.items() <= LOCKED.items()


def test_requirements_of_storage_are_exact_and_hold_with_the_pins() -> None:
    """Whether they resolve is tried by `make test-infra`, which needs a package index."""
    for kind in ("s3", "gcs", "azure", "postgres"):
        name = f"requirements-{kind}.txt"
        added = _requirements(name)
        assert added
        assert all(version.startswith("==") for version in added.values()), name
        assert all(LOCKED.get(package, version) == version for package, version in added.items())
        assert "-r requirements.txt" in (PROJECT / name).read_text().splitlines()
    # botocore, of requirements-s3.txt, needs a python-dateutil below 3
    assert LOCKED["python-dateutil"].startswith("==2.")


def test_conda_and_python_env_have_the_same_pins() -> None:
    """As MLflow reads the two files."""
    python = _PythonEnv.from_yaml(PROJECT / "python_env.yaml")
    conda = _PythonEnv.from_conda_yaml(PROJECT / "conda.yaml")

    assert (python.python, python.dependencies) == (conda.python, conda.dependencies)
    assert python.dependencies == ["-r requirements.txt"]
    assert "-c constraints.txt" in (PROJECT / "requirements.txt").read_text().splitlines()


def test_there_is_no_uv_lock() -> None:
    """MLflow's uv manager silently prefers a uv.lock to python_env.yaml."""
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
