"""The asset bundle: what the Databricks CLI deploys of it, and its tasks run as a job runs them."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from graphlib import TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from steps.common.paths import PROJECT
from tests.project import Done, Workplace

TEXT = (PROJECT / "databricks.yml").read_text()
EXPERIMENT_ID = "resources.experiments.slmflow.id"
COMMIT = "8" * 40

# What Databricks' kernel does with the file of a `spark_python_task`: there is no `__file__`, and
# an exit, whatever its status, ends the task as one that failed.
_TASK = """
import sys

del sys.argv[0]
filename = sys.argv[0]
with open(filename, "rb") as f:
    exec(compile(f.read(), filename, "exec"))
print("succeeded")
"""


def deployed(target: str, known: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Return the bundle for a target with all `${...}` filled in, as the Databricks CLI does.

    known: values of references, in place of the file's.
    """
    bundle: dict[str, Any] = yaml.safe_load(TEXT)
    values = {"bundle.name": bundle["bundle"]["name"], "bundle.target": target}
    values |= {"workspace.current_user.userName": "someone@example.com", EXPERIMENT_ID: "1"}
    values["bundle.git.commit"] = COMMIT
    variables = {name: each.get("default") for name, each in bundle["variables"].items()}
    variables |= bundle["targets"][target]["variables"]
    values |= {f"var.{name}": value for name, value in variables.items()}
    values |= known

    def fill(text: str) -> str:
        filled = re.sub(r"\$\{([\w.]+)\}", lambda found: values[found[1]], text)
        return filled if filled == text else fill(filled)

    filled: dict[str, Any] = _mapped(bundle, fill)
    return filled


def upload(folder: Path) -> None:
    """Copy into a folder what the Databricks CLI uploads: what git and `sync` do not leave out."""
    ignored = [line.rstrip("/") for line in (PROJECT / ".gitignore").read_text().split()]
    excluded = {".git", *(each.removesuffix("/**") for each in deployed("dev")["sync"]["exclude"])}

    def left_out(inside: str, names: list[str]) -> set[str]:
        at_root = excluded if Path(inside) == PROJECT else set()
        return at_root | {n for n in names if any(fnmatch(n, each) for each in ignored)}

    shutil.copytree(PROJECT, folder, ignore=left_out)


def tasks(job: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a job, each after those that it depends on."""
    by_key = {task["task_key"]: task for task in job["tasks"]}
    before = {
        key: [each["task_key"] for each in task.get("depends_on", ())]
        for key, task in by_key.items()
    }
    yield from (by_key[key] for key in TopologicalSorter(before).static_order())


def calls(job: Mapping[str, Any], task: Mapping[str, Any], **given: str) -> Iterator[list[str]]:
    """Yield the file and the parameters of every run of a task.

    given: parameters of the job in place of their defaults.
    """
    values = {each["name"]: each["default"] for each in job["parameters"]} | given
    references = {f"job.parameters.{name}": value for name, value in values.items()}
    if "for_each_task" in task:
        inputs = _filled(task["for_each_task"]["inputs"], references)
        for point in json.loads(inputs):
            yield _call(task["for_each_task"]["task"], references | {"input": point})
    else:
        yield _call(task, references)


@dataclass(frozen=True)
class Workspace:
    """A workplace with the files that the bundle uploads, where its tasks run."""

    place: Workplace
    experiment_id: str

    @classmethod
    def of(cls, folder: Path) -> "Workspace":
        """Upload the bundle into a folder, with a tracking database and a store beside it."""
        upload(folder / "files")
        place = Workplace(folder)
        artifacts = str(folder / "mlruns")
        return cls(place, place.client.create_experiment("/Shared/slmflow", artifacts))

    def job(self, name: str) -> dict[str, Any]:
        """Return a job as it is deployed to `prod`, with the store of this workplace."""
        database = f"sqlite:///{self.place.folder}/mlflow.db"
        known = {
            "var.tracking_uri": database,
            "var.registry_uri": database,
            "var.store": f"{self.place.folder}/volume",
            EXPERIMENT_ID: self.experiment_id,
        }
        job: dict[str, Any] = deployed("prod", known)["resources"]["jobs"][name]
        return job

    def run(self, call: list[str]) -> Done:
        """Run a task; its status is 0 where Databricks takes it for one that succeeded."""
        file, *parameters = call
        own = {"PYTHONPATH", "MLFLOW_TRACKING_URI", "SLMFLOW_HOME"}
        done = subprocess.run(
            [sys.executable, "-c", _TASK, str(self.place.folder / "files" / file), *parameters],
            cwd=self.place.folder,
            env={name: v for name, v in self.place.environ().items() if name not in own},
            capture_output=True,
            text=True,
        )
        succeeded = done.returncode == 0 and done.stdout.endswith("succeeded\n")
        return Done(0 if succeeded else done.returncode or 1, done.stdout, done.stderr)


def _call(task: Mapping[str, Any], references: Mapping[str, str]) -> list[str]:
    called = task["spark_python_task"]
    return [called["python_file"], *(_filled(each, references) for each in called["parameters"])]


def _filled(text: str, references: Mapping[str, str]) -> str:
    return re.sub(r"\{\{([\w.]+)\}\}", lambda found: references[found[1]], text)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, dict):
        return {key: _mapped(each, change) for key, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    return change(value) if isinstance(value, str) else value
