"""databricks/: what the two roads submit, held to the project and to Databricks' own SDK."""

import json
import re
from pathlib import Path
from typing import Any

import yaml
from databricks.sdk.service.compute import ClusterSpec, Library
from mlflow.projects import _project_spec

from steps.common.paths import PROJECT
from steps.common.pins import installed

FOLDER = PROJECT / "databricks"


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_the_sdk_knows_every_field() -> None:
    """`from_dict` drops what it does not know, so all must come back."""
    ordinary, spark = _read(FOLDER / "cluster.json"), _read(FOLDER / "spark_cluster.json")

    assert set(ordinary) == {"new_cluster", "libraries"}
    assert ClusterSpec.from_dict(ordinary["new_cluster"]).as_dict() == ordinary["new_cluster"]
    assert [Library.from_dict(x).as_dict() for x in ordinary["libraries"]] == ordinary["libraries"]
    assert spark == ordinary["new_cluster"]


def test_libraries_are_the_pins_of_the_project() -> None:
    ordinary = [x["pypi"]["package"] for x in _read(FOLDER / "cluster.json")["libraries"]]
    spark = _project_spec.load_project(str(FOLDER)).databricks_spark_job_spec

    assert ordinary == installed("uv")
    assert spark.python_libraries == installed("mlflow", "uv")
    assert set(spark.python_libraries) <= set((PROJECT / "requirements.txt").read_text().split())


def test_the_spark_job_has_the_entry_points_and_keys_of_the_project() -> None:
    project = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]
    spark = yaml.safe_load((FOLDER / "MLproject").read_text())["entry_points"]

    assert set(spark) == set(project) - {"test"}
    for name, entry in spark.items():
        parameters = {"env_manager": {"type": "string", "default": "uv"}}
        assert entry["parameters"] == parameters | project[name]["parameters"]
        assert entry["command"].startswith(f"python job.py {name} --env_manager {{env_manager}} ")
        passed = re.findall(r" --(\w+) \{(\w+)\}", entry["command"])
        assert dict(passed) == {key: key for key in entry["parameters"]}
