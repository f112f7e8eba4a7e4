"""The cluster specs and MLproject of databricks/, checked against Databricks' SDK."""

import json
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from databricks.sdk.service.compute import ClusterSpec, Library
from mlflow.projects import _project_spec

from slmflow.config import compose as configs
from slmflow.flavors.pins import pin_installed
from slmflow.paths import PROJECT

FOLDER = PROJECT / "databricks"
TEXT = (PROJECT / "docs" / "databricks.md").read_text()
COMMANDS = re.findall(r"^make .*", TEXT, re.MULTILINE)


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_spec_fields_are_known_to_the_sdk() -> None:
    """`from_dict` drops unknown fields, so a round trip must keep all."""
    ordinary, spark = _read(FOLDER / "cluster.json"), _read(FOLDER / "spark_cluster.json")

    assert set(ordinary) == {"new_cluster", "libraries"}
    assert ClusterSpec.from_dict(ordinary["new_cluster"]).as_dict() == ordinary["new_cluster"]
    assert [Library.from_dict(x).as_dict() for x in ordinary["libraries"]] == ordinary["libraries"]
    assert spark == ordinary["new_cluster"]


def test_libraries_have_the_pins_of_the_project() -> None:
    ordinary = [x["pypi"]["package"] for x in _read(FOLDER / "cluster.json")["libraries"]]
    spark = _project_spec.load_project(str(FOLDER)).databricks_spark_job_spec

    assert ordinary == pin_installed("uv")
    assert spark.python_libraries == pin_installed("mlflow", "uv")
    assert set(spark.python_libraries) <= set((PROJECT / "requirements.txt").read_text().split())


def test_spark_job_has_the_entry_points_of_the_project() -> None:
    project = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    spark = yaml.safe_load((FOLDER / "MLproject").read_text())["entry_points"]

    assert set(spark) == set(project) - {"test"}
    for name, entry in spark.items():
        assert entry["parameters"] == {"env_manager": {"type": "string", "default": "uv"}}
        assert entry["command"] == f"python spark_job.py {name} --env_manager {{env_manager}}"


@pytest.mark.parametrize("command", COMMANDS)
def test_documented_commands_submit_valid_arguments(command: str) -> None:
    """The make targets exist, and the project accepts their arguments."""
    dry = subprocess.run(
        ["bash", "-c", f"{command} --dry-run --no-print-directory"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )
    submitted = shlex.split(dry.stdout.replace("\\\n", "").splitlines()[-1])

    assert dry.returncode == 0
    assert [*submitted[:2], *submitted[3:5]] == ["mlflow", "run", "-b", "databricks"]
    assert "--experiment-name" in submitted
    configs.load([value for key, value in pairwise(submitted) if key == "-P"])


def test_documented_files_and_targets_exist() -> None:
    assert {line.split()[1] for line in COMMANDS} == {"databricks", "databricks-spark"}
    for path in re.findall(r"`(databricks/[\w.]+)`", TEXT):
        assert (PROJECT / path).is_file()
