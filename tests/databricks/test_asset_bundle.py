"""databricks.yml and databricks/step.py: fields, parameters and steps, and the jobs themselves."""

import csv
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from databricks.bundles.experiments import MlflowExperiment
from databricks.bundles.jobs import Job
from mlflow.entities import Run

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.config.reference import group_entries
from slmflow.config.schema.config import Config
from slmflow.paths import PROJECT
from slmflow.pipeline import runs
from slmflow.pipeline.results import ModelVersion, Result
from slmflow.registry import preflight
from slmflow.sweeps import points
from slmflow.sweeps.arguments import parse_arguments
from tests.batch.workspace import BatchFolder
from tests.fixtures.asset_bundle import (
    COMMIT,
    TEXT,
    BundleWorkspace,
    resolve_bundle,
    task_commands,
    tasks,
)
from tests.fixtures.tracking import read_table

BUNDLE: dict[str, Any] = yaml.safe_load(TEXT)
JOBS = BUNDLE["resources"]["jobs"]
STEP = runpy.run_path(str(PROJECT / "databricks" / "step.py"))

# https://docs.databricks.com/aws/en/release-notes/serverless/environment-version
PYTHON_OF_ENVIRONMENT = {"1": "3.10", "2": "3.11", "3": "3.12", "4": "3.12", "5": "3.12"}
DOCUMENT = (PROJECT / "docs" / "bundle.md").read_text()
FEW_ROWS = "evaluation.limit=4"
ROWS = "bundled/capitals/evaluation.jsonl"


@pytest.fixture
def bundle(tmp_path: Path) -> Iterator[BundleWorkspace]:
    bundle = BundleWorkspace.of(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(bundle.sandbox.environ()["MLFLOW_TRACKING_URI"])
    yield bundle
    mlflow.set_tracking_uri(before)


@dataclass(frozen=True)
class Command:
    """One run of a task: the file, and what its parameters mean to it."""

    file: str
    variables: dict[str, str]
    step: str
    arguments: list[str]

    @property
    def config(self) -> Config:
        """The config of the step."""
        texts = overrides.from_arguments(self.arguments)
        return parse_arguments(texts)[1] if self.step == "sweep" else configs.load(texts)


def _commands(job: dict[str, Any], task: dict[str, Any], **values: str) -> Iterator[Command]:
    for file, *parameters in task_commands(job, task, **values):
        yield Command(file, *STEP["split_command"](STEP["split_words"](parameters)))


def _all_commands(target: str) -> Iterator[Command]:
    for job in resolve_bundle(target)["resources"]["jobs"].values():
        for task in tasks(job):
            yield from _commands(job, task)


@pytest.mark.parametrize("name", JOBS)
def test_job_fields_are_in_the_published_schema(name: str) -> None:
    assert Job.from_dict(JOBS[name]).as_dict() == JOBS[name]

    misspelt = JOBS[name]["tasks"][0] | {"depend_on": []}
    with pytest.raises(ValueError, match="depend_on"):
        Job.from_dict({"tasks": [misspelt]})


def test_experiment_fields_are_in_the_published_schema() -> None:
    experiment = BUNDLE["resources"]["experiments"]["slmflow"]
    assert MlflowExperiment.from_dict(experiment).as_dict() == experiment


def test_each_step_is_a_task_after_its_inputs() -> None:
    before = {
        task["task_key"]: {each["task_key"] for each in task.get("depends_on", ())}
        for task in JOBS["workflow"]["tasks"]
    }

    def consumed(kind: type[Result]) -> dict[str, set[str]]:
        own = {kind.step: {other.step for other in kind.consumes}}
        return own | {k: v for other in kind.consumes for k, v in consumed(other).items()}

    assert before == consumed(ModelVersion)
    for task in tasks(JOBS["workflow"]):
        assert [task["task_key"]] == task["spark_python_task"]["parameters"][1:2]


@pytest.mark.parametrize("target", BUNDLE["targets"])
def test_named_files_steps_and_overrides_exist(target: str) -> None:
    commands = list(_all_commands(target))

    assert len(commands) == 7 + (1 + 3 + 1) + 1
    for command in commands:
        assert (PROJECT / command.file).is_file()
        assert (PROJECT / "steps" / f"{command.step}.py").is_file()
        assert command.config.model.name == "tiny_phi3"


def test_parameters_have_the_defaults_of_conf() -> None:
    choices = {group.name: group.default for group in group_entries() if group.name != "sweep"}

    workflow = {each["name"]: each["default"] for each in JOBS["workflow"]["parameters"]}
    sweep = {each["name"]: each["default"] for each in JOBS["sweep"]["parameters"]}

    assert workflow == choices | {"overrides": ""}
    assert {name: sweep[name] for name in sweep.keys() & choices.keys()}.items() <= choices.items()


def test_overrides_come_last() -> None:
    job = resolve_bundle("dev")["resources"]["jobs"]["workflow"]
    texts = 'registry.name=a.b.c target=cpu_int8 evaluation.system="Be brief, {please}."'

    [command] = _commands(job, job["tasks"][-1], overrides=texts)

    config = command.config
    assert (config.registry.name, config.target.name) == ("a.b.c", "cpu_int8")
    assert config.evaluation.system == "Be brief, {please}."


def test_points_are_those_of_the_grid() -> None:
    job = resolve_bundle("dev")["resources"]["jobs"]["sweep"]
    defaults = {each["name"]: each["default"] for each in job["parameters"]}

    grid = points.grid(shlex.split(defaults["grid"]))

    assert [each.name for each in grid] == json.loads(defaults["points"])


def test_documented_jobs_and_parameters_exist() -> None:
    for line in re.findall(r"^databricks bundle run -t dev (.*)$", DOCUMENT, re.MULTILINE):
        name, *options = shlex.split(line)
        values = {}
        if "--params" in options:
            [pairs] = csv.reader([options[options.index("--params") + 1]])  # as the CLI reads them
            values = dict(pair.split("=", 1) for pair in pairs)
        job = resolve_bundle("dev")["resources"]["jobs"][name]
        assert values.keys() <= {each["name"] for each in job["parameters"]}
        for task in tasks(job):
            for command in _commands(job, task, **values):
                texts = [re.sub(r"=/Volumes/.*/rows.*", f"={ROWS}", t) for t in command.arguments]
                assert replace(command, arguments=texts).config
    variables = "".join(re.findall(r"^\| (`.*?) \|", DOCUMENT, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", variables)) == set(BUNDLE["variables"])


def test_dev_and_prod_write_to_different_places() -> None:
    bundles = {target: resolve_bundle(target) for target in ("dev", "prod")}
    places = {target: dict(_places(bundle)) for target, bundle in bundles.items()}

    assert bundles["dev"]["targets"]["dev"]["mode"] == "development"
    assert bundles["prod"]["targets"]["prod"]["mode"] == "production"
    assert all(places["dev"][key] != place for key, place in places["prod"].items())
    assert places["prod"] == {
        "store": "/Volumes/main/slmflow/slmflow",
        "experiment": "/Shared/slmflow",
        "registry": "main.slmflow.slmflow_tiny_phi3",
    }


def _places(bundle: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    job = bundle["resources"]["jobs"]["workflow"]
    [command] = _commands(job, job["tasks"][-1])
    yield "store", command.variables["SLMFLOW_HOME"]
    yield "experiment", bundle["resources"]["experiments"]["slmflow"]["name"]
    yield "registry", command.config.registry.name


def test_model_names_are_valid_in_unity_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    assert preflight.uses_unity_catalog()

    for command in _all_commands("prod"):
        if command.step == "register":
            preflight.validate_config(command.config)


def test_tasks_log_to_workspace_and_unity_catalog() -> None:
    """By default, MLflow from pip uses a database in the working folder, also on Databricks."""
    for command in _all_commands("prod"):
        assert command.variables == {
            "MLFLOW_TRACKING_URI": "databricks",
            "MLFLOW_REGISTRY_URI": "databricks-uc",
            "MLFLOW_EXPERIMENT_ID": "1",
            "SLMFLOW_HOME": "/Volumes/main/slmflow/slmflow",
            "SLMFLOW_GIT_COMMIT": COMMIT,
        }


def test_batch_cluster_has_the_pins_and_python() -> None:
    [cluster], [task] = JOBS["batch"]["job_clusters"], JOBS["batch"]["tasks"]

    assert task["job_cluster_key"] == cluster["job_cluster_key"]
    assert task["libraries"] == [{"requirements": "./requirements.txt"}]
    of_spark_job = json.loads((PROJECT / "databricks" / "spark_cluster.json").read_text())
    assert cluster["new_cluster"]["spark_version"] == of_spark_job["spark_version"]


def test_batch_answers_a_file(bundle: BundleWorkspace, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    BatchFolder(volume).write("in.jsonl", [{"question": "one"}, {"question": "two"}])
    values = {"model_uri": BatchFolder(tmp_path).save_echo_model(), "input": f"{volume}/in.jsonl"}

    _run_job(bundle, "batch", {"batch"}, **values, output=f"{volume}/out.jsonl")

    answers = [row["answer"] for row in BatchFolder(volume).read("out.jsonl")]
    assert answers == ["You said one", "You said two"]
    [run] = _runs(bundle)
    assert (run.data.tags[runs.STEP], run.info.status) == ("batch", "FINISHED")


@pytest.mark.parametrize("name", ["workflow", "sweep"])
def test_environment_has_the_pins_and_python(name: str, tmp_path: Path) -> None:
    """A dependency is a line of a requirements file, with paths relative to the bundle."""
    [environment] = JOBS[name]["environments"]
    spec = environment["spec"]
    lines = [line.replace("-r ./", f"-r {PROJECT}/") for line in spec["dependencies"]]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    # Offline, it can only confirm that each pinned version is installed.
    dry_run = [*("uv", "pip", "install", "--dry-run", "--offline"), "--python", sys.executable]

    process = subprocess.run(
        [*dry_run, "-r", "lines.txt"], cwd=tmp_path, capture_output=True, text=True
    )

    assert "Would make no changes" in process.stderr
    assert lines == [f"-r {PROJECT}/requirements.txt"]
    python = yaml.safe_load((PROJECT / "python_env.yaml").read_text())["python"]
    assert PYTHON_OF_ENVIRONMENT[spec["environment_version"]] == python
    inner = [task.get("for_each_task", {}).get("task", task) for task in JOBS[name]["tasks"]]
    assert {task.get("environment_key") for task in inner} == {environment["environment_key"]}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "error: '' is not a step. Give one of batch, convert,"),
        (["SLMFLOW_HOME=/tmp", "fetc"], "error: 'fetc' is not a step. Did you mean fetch?"),
        (["fetch model='tiny"], "cannot be parsed (No closing quotation): fix the quotes"),
        (["fetch", "model=tiny_phi4"], "error: model=tiny_phi4: unknown. Did you mean tiny_phi3?"),
    ],
)
def test_invalid_task_fails_with_one_message(
    parameters: list[str], message: str, tmp_path: Path
) -> None:
    command = [sys.executable, PROJECT / "databricks" / "step.py", *parameters]
    process = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert process.returncode == 2
    assert message in process.stderr
    assert len(process.stderr.splitlines()) == 1


def _runs(bundle: BundleWorkspace) -> list[Run]:
    """Return the runs of steps in the experiment, oldest first."""
    logged = bundle.sandbox.client.search_runs(
        [bundle.experiment_id], order_by=["attributes.start_time ASC"]
    )
    return [run for run in logged if runs.STEP in run.data.tags]


def _run_job(bundle: BundleWorkspace, name: str, keys: set[str], **values: str) -> None:
    job = bundle.job(name)
    for task in tasks(job):
        if task["task_key"] in keys:
            for call in task_commands(job, task, overrides=FEW_ROWS, **values):
                bundle.run(call).check()


@pytest.mark.long
def test_task_reuses_the_result_of_an_earlier_task(bundle: BundleWorkspace) -> None:
    _run_job(bundle, "workflow", {"fetch", "log_transformers"})

    fetched, logged = _runs(bundle)

    assert [run.data.tags[runs.STEP] for run in (fetched, logged)] == ["fetch", "log_transformers"]
    assert logged.data.tags[runs.REUSED_FROM] == f"fetch:{fetched.info.run_id}"
    assert logged.data.tags[runs.GIT_COMMIT] == COMMIT
    weights = mlflow.artifacts.load_dict(f"runs:/{fetched.info.run_id}/result.json")
    assert (bundle.sandbox.folder / "volume" / weights["path"]).is_dir()
    assert {path.name for path in bundle.sandbox.folder.iterdir()} == {
        *("files", "mlflow.db", "mlruns", "tmp", "volume")
    }


@pytest.mark.long
def test_workflow_registers_a_version_without_launching_steps(bundle: BundleWorkspace) -> None:
    keys = {task["task_key"] for task in JOBS["workflow"]["tasks"]}

    _run_job(bundle, "workflow", keys)

    logged = {run.data.tags[runs.STEP]: run for run in _runs(bundle)}
    assert len(_runs(bundle)) == len(logged)
    assert logged.keys() == keys
    assert {run.info.status for run in logged.values()} == {"FINISHED"}
    assert not any("mlflow.parentRunId" in run.data.tags for run in logged.values())
    run_id = logged["evaluate"].info.run_id
    assert [row["flavor"] for row in read_table(run_id)] == ["transformers", "genai"]
    name = "main.slmflow.slmflow_tiny_phi3"
    version = bundle.sandbox.client.get_model_version_by_alias(name, "candidate")
    assert version.tags["slmflow_run_evaluate"] == run_id


@pytest.mark.long
def test_sweep_reuses_its_points(bundle: BundleWorkspace) -> None:
    keys = {task["task_key"] for task in JOBS["sweep"]["tasks"]}
    names = ["target=cpu_fp32", "target=cpu_int8"]

    _run_job(bundle, "sweep", keys, points=json.dumps(names), grid="target=cpu_fp32,cpu_int8")

    logged = _runs(bundle)
    steps = Counter(run.data.tags[runs.STEP] for run in logged)
    [sweep] = [run for run in logged if run.data.tags[runs.STEP] == "sweep"]
    outcomes = {name.removeprefix("points."): n for name, n in sweep.data.metrics.items()}
    assert outcomes == {"measured": 0, "reused": 2, "failed": 0, "given_up": 0}
    assert steps["fetch"] == steps["log_transformers"] == 1
    assert steps["convert"] == steps["log_genai"] == steps["measure"] == 2
    points_of_runs = [run.data.tags.get("slmflow.point") for run in logged]
    assert [name for name in points_of_runs if name] == names
