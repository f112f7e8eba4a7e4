"""databricks.yml and databricks/step.py: fields, parameters and steps, and the jobs themselves."""

import csv
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
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
from tests.batch.workspace import read_rows, save_echo_model, write_rows
from tests.fixtures.asset_bundle import (
    COMMIT,
    TEXT,
    BundleWorkspace,
    resolve_bundle,
    task_commands,
    tasks,
)

BUNDLE: dict[str, Any] = yaml.safe_load(TEXT)
JOBS = BUNDLE["resources"]["jobs"]
STEP = runpy.run_path(str(PROJECT / "databricks" / "step.py"))

# https://docs.databricks.com/aws/en/release-notes/serverless/environment-version
PYTHON_OF_ENVIRONMENT = {"1": "3.10", "2": "3.11", "3": "3.12", "4": "3.12", "5": "3.12"}
DOCUMENT = (PROJECT / "docs" / "bundle.md").read_text()
FEW_ROWS = "evaluation.limit=4"
ROWS = "bundled/capitals/evaluation.jsonl"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[BundleWorkspace]:
    workspace = BundleWorkspace.of(tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(workspace.sandbox.environ()["MLFLOW_TRACKING_URI"])
    yield workspace
    mlflow.set_tracking_uri(before)


def _task_runs(target: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield the file, the step and its overrides of each run of each task."""
    for job in resolve_bundle(target)["resources"]["jobs"].values():
        for task in tasks(job):
            for file, *parameters in task_commands(job, task):
                _, step, taken = STEP["split_command"](STEP["split_words"](parameters))
                yield file, step, taken


def _config(step: str, taken: list[str]) -> Config:
    given = overrides.from_arguments(taken)
    return parse_arguments(given)[1] if step == "sweep" else configs.load(given)


@pytest.mark.parametrize("name", JOBS)
def test_job_fields_are_in_the_published_schema(name: str) -> None:
    """`from_dict` rejects unknown fields."""
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
    named = list(_task_runs(target))

    assert len(named) == 7 + (1 + 3 + 1) + 1
    for file, step, taken in named:
        assert (PROJECT / file).is_file()
        assert (PROJECT / "steps" / f"{step}.py").is_file()
        assert _config(step, taken).model.name == "tiny_phi3"


def test_parameters_have_the_defaults_of_conf() -> None:
    choices = {group.name: group.default for group in group_entries() if group.name != "sweep"}

    workflow = {each["name"]: each["default"] for each in JOBS["workflow"]["parameters"]}
    sweep = {each["name"]: each["default"] for each in JOBS["sweep"]["parameters"]}

    assert workflow == choices | {"overrides": ""}
    assert {name: sweep[name] for name in sweep.keys() & choices.keys()}.items() <= choices.items()


def test_overrides_come_last() -> None:
    job = resolve_bundle("dev")["resources"]["jobs"]["workflow"]
    asked = 'registry.name=a.b.c target=cpu_int8 evaluation.system="Be brief, {please}."'

    [[_, *parameters]] = task_commands(job, job["tasks"][-1], overrides=asked)
    _, step, taken = STEP["split_command"](STEP["split_words"](parameters))
    config = _config(step, taken)

    assert (config.registry.name, config.target.name) == ("a.b.c", "cpu_int8")
    assert config.evaluation.system == "Be brief, {please}."


def test_points_are_those_of_the_grid() -> None:
    job = resolve_bundle("dev")["resources"]["jobs"]["sweep"]
    defaults = {each["name"]: each["default"] for each in job["parameters"]}

    grid = points.grid(shlex.split(defaults["grid"]))

    assert [each.name for each in grid] == json.loads(defaults["points"])


def test_documented_jobs_and_parameters_exist() -> None:
    for command in re.findall(r"^databricks bundle run -t dev (.*)$", DOCUMENT, re.MULTILINE):
        name, *options = shlex.split(command)
        given = {}
        if "--params" in options:
            [pairs] = csv.reader([options[options.index("--params") + 1]])  # as the CLI reads them
            given = dict(pair.split("=", 1) for pair in pairs)
        job = resolve_bundle("dev")["resources"]["jobs"][name]
        assert given.keys() <= {each["name"] for each in job["parameters"]}
        for task in tasks(job):
            for _, *parameters in task_commands(job, task, **given):
                _, step, taken = STEP["split_command"](STEP["split_words"](parameters))
                _config(step, [re.sub(r"=/Volumes/.*/rows.*", f"={ROWS}", each) for each in taken])
    told = "".join(re.findall(r"^\| (`.*?) \|", DOCUMENT, re.MULTILINE))
    assert set(re.findall(r"`(\w+)`", told)) == set(BUNDLE["variables"])


def test_dev_and_prod_write_to_different_places() -> None:
    dev, prod = (resolve_bundle(target) for target in ("dev", "prod"))

    assert [each["mode"] for each in (dev["targets"]["dev"], prod["targets"]["prod"])] == [
        "development",
        "production",
    ]
    names = [dict(_names(bundle)) for bundle in (dev, prod)]
    assert all(names[0][key] != names[1][key] for key in names[0])
    assert names[1] == {
        "store": "/Volumes/main/slmflow/slmflow",
        "experiment": "/Shared/slmflow",
        "registry": "main.slmflow.slmflow_tiny_phi3",
    }


def _names(bundle: dict[str, Any]) -> Iterator[tuple[str, str]]:
    job = bundle["resources"]["jobs"]["workflow"]
    [[_, *parameters]] = task_commands(job, job["tasks"][-1])
    variables, step, taken = STEP["split_command"](STEP["split_words"](parameters))
    yield "store", variables["SLMFLOW_HOME"]
    yield "experiment", bundle["resources"]["experiments"]["slmflow"]["name"]
    yield "registry", _config(step, taken).registry.name


def test_model_names_are_valid_in_unity_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "databricks-uc")
    assert preflight.uses_unity_catalog()

    for _, step, taken in _task_runs("prod"):
        if step == "register":
            preflight.validate_config(_config(step, taken))


def test_tasks_log_to_workspace_and_unity_catalog() -> None:
    """By default, MLflow from pip uses a database in the working folder, also on Databricks."""
    for job in resolve_bundle("prod")["resources"]["jobs"].values():
        for task in tasks(job):
            for _, *parameters in task_commands(job, task):
                assert STEP["split_command"](STEP["split_words"](parameters))[0] == {
                    "MLFLOW_TRACKING_URI": "databricks",
                    "MLFLOW_REGISTRY_URI": "databricks-uc",
                    "MLFLOW_EXPERIMENT_ID": "1",
                    "SLMFLOW_HOME": "/Volumes/main/slmflow/slmflow",
                    "SLMFLOW_GIT_COMMIT": COMMIT,
                }


def test_batch_cluster_has_the_pins_and_python_of_the_project() -> None:
    [cluster], [task] = JOBS["batch"]["job_clusters"], JOBS["batch"]["tasks"]

    assert task["job_cluster_key"] == cluster["job_cluster_key"]
    assert task["libraries"] == [{"requirements": "./requirements.txt"}]
    of_spark_job = json.loads((PROJECT / "databricks" / "spark_cluster.json").read_text())
    assert cluster["new_cluster"]["spark_version"] == of_spark_job["spark_version"]


def test_batch_answers_a_file(workspace: BundleWorkspace, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    write_rows(volume / "in.jsonl", [{"question": "one"}, {"question": "two"}])
    given = {"model_uri": save_echo_model(tmp_path), "input": f"{volume}/in.jsonl"}

    _run_job(workspace, "batch", {"batch"}, **given, output=f"{volume}/out.jsonl")

    answers = [row["answer"] for row in read_rows(volume / "out.jsonl")]
    assert answers == ["You said one", "You said two"]
    [run] = _runs(workspace)
    assert (run.data.tags[runs.STEP], run.info.status) == ("batch", "FINISHED")


@pytest.mark.parametrize("name", ["workflow", "sweep"])
def test_environment_has_the_pins_and_python_of_the_project(name: str, tmp_path: Path) -> None:
    """A dependency is a line of a requirements file, with paths relative to the bundle."""
    [environment] = JOBS[name]["environments"]
    spec = environment["spec"]
    lines = [line.replace("-r ./", f"-r {PROJECT}/") for line in spec["dependencies"]]
    (tmp_path / "lines.txt").write_text("\n".join(lines))
    # Offline, it can only confirm that each pinned version is installed.
    dry_run = [*("uv", "pip", "install", "--dry-run", "--offline"), "--python", sys.executable]

    done = subprocess.run(
        [*dry_run, "-r", "lines.txt"], cwd=tmp_path, capture_output=True, text=True
    )

    assert "Would make no changes" in done.stderr
    assert lines == [f"-r {PROJECT}/requirements.txt"]
    python = yaml.safe_load((PROJECT / "python_env.yaml").read_text())["python"]
    assert PYTHON_OF_ENVIRONMENT[spec["environment_version"]] == python
    keys = {task.get("environment_key") for task in _inner(JOBS[name])}
    assert keys == {environment["environment_key"]}


def _inner(job: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from (task.get("for_each_task", {}).get("task", task) for task in job["tasks"])


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
    done = subprocess.run(
        [sys.executable, PROJECT / "databricks" / "step.py", *parameters],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def _runs(workspace: BundleWorkspace) -> list[Run]:
    """Return the runs of steps in the experiment, oldest first."""
    found = workspace.sandbox.client.search_runs(
        [workspace.experiment_id], order_by=["attributes.start_time ASC"]
    )
    return [run for run in found if runs.STEP in run.data.tags]


def _run_job(workspace: BundleWorkspace, name: str, keys: set[str], **given: str) -> None:
    job = workspace.job(name)
    for task in tasks(job):
        if task["task_key"] in keys:
            for call in task_commands(job, task, overrides=FEW_ROWS, **given):
                done = workspace.run(call)
                assert done.status == 0, done.errors


@pytest.mark.long
def test_task_reuses_the_result_of_an_earlier_task(workspace: BundleWorkspace) -> None:
    _run_job(workspace, "workflow", {"fetch", "log_transformers"})

    fetched, logged = _runs(workspace)

    assert [run.data.tags[runs.STEP] for run in (fetched, logged)] == ["fetch", "log_transformers"]
    assert logged.data.tags[runs.REUSED_FROM] == f"fetch:{fetched.info.run_id}"
    assert logged.data.tags[runs.GIT_COMMIT] == COMMIT
    weights = mlflow.artifacts.load_dict(f"runs:/{fetched.info.run_id}/result.json")
    assert Path(weights["path"]).is_relative_to(workspace.sandbox.folder / "volume")
    assert {path.name for path in workspace.sandbox.folder.iterdir()} == {
        *("files", "mlflow.db", "mlruns", "tmp", "volume")
    }


@pytest.mark.long
def test_workflow_registers_a_version_without_launching_steps(workspace: BundleWorkspace) -> None:
    keys = {task["task_key"] for task in JOBS["workflow"]["tasks"]}

    _run_job(workspace, "workflow", keys)

    made = _runs(workspace)
    assert sorted(run.data.tags[runs.STEP] for run in made) == sorted(keys)
    assert {run.info.status for run in made} == {"FINISHED"}
    assert not any("mlflow.parentRunId" in run.data.tags for run in made)
    evaluated = next(run for run in made if run.data.tags[runs.STEP] == "evaluate")
    table = mlflow.artifacts.load_dict(f"runs:/{evaluated.info.run_id}/comparison.json")
    assert [row[0] for row in table["data"]] == ["transformers", "genai"]
    name = "main.slmflow.slmflow_tiny_phi3"
    version = workspace.sandbox.client.get_model_version_by_alias(name, "candidate")
    assert version.tags["slmflow_run_evaluate"] == evaluated.info.run_id


@pytest.mark.long
def test_sweep_reuses_its_points(workspace: BundleWorkspace) -> None:
    keys = {task["task_key"] for task in JOBS["sweep"]["tasks"]}
    asked = ("target=cpu_fp32", "target=cpu_int8")

    _run_job(workspace, "sweep", keys, points=json.dumps(asked), grid="target=cpu_fp32,cpu_int8")

    made = _runs(workspace)
    steps = [run.data.tags[runs.STEP] for run in made]
    sweep = next(run for run in made if run.data.tags[runs.STEP] == "sweep")
    done = {name.removeprefix("points."): n for name, n in sweep.data.metrics.items()}
    assert done == {"measured": 0, "reused": 2, "failed": 0, "given_up": 0}
    assert {step: steps.count(step) for step in ("fetch", "log_transformers")} == {
        "fetch": 1,
        "log_transformers": 1,
    }
    assert all(steps.count(step) == 2 for step in ("convert", "log_genai", "measure"))
    shown = [run.data.tags.get("slmflow.point") for run in made]
    assert tuple(each for each in shown if each) == asked
