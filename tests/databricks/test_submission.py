"""Submit the project with MLflow's client, as an ordinary job and as a Spark job, and run it.

This runs one step; `test_workflow_as_a_job.py` runs all.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from slmflow.flavors.pins import pin_installed
from slmflow.paths import PROJECT
from slmflow.pipeline import runs
from tests.databricks.submitting import (
    EXPERIMENT,
    UNCOMMITTED_LINE,
    Checkout,
    file_sizes,
    find_run,
    find_upload,
    tracking_client,
)
from tests.databricks.workspace import CLUSTER_TOKEN, USER_TOKEN, Job, Workspace

SUBMISSION_ARGUMENTS = {
    "databricks": ("--env-manager", "local"),
    "databricks-spark": ("-P", "env_manager=local"),
}
TEXT = "Be brief, please; and 'kind' > /dev/null"


pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Submission:
    """A submitted job of the step `fetch`, and the make target that submitted it."""

    target: str
    job: Job
    archive: Path

    @property
    def prefix(self) -> str:
        """Folder of the project in the upload."""
        return "slmflow/" if self.target == "databricks-spark" else ""


@pytest.fixture(scope="module", params=["databricks", "databricks-spark"])
def submission(
    request: pytest.FixtureRequest, checkout: Checkout, workspace: Workspace
) -> Submission:
    target = request.param
    arguments = ("-e", "fetch", *SUBMISSION_ARGUMENTS[target], "-P", f"evaluation.system={TEXT}")
    job = checkout.submit(target, *arguments)
    job.wait()
    return Submission(target, job, find_upload(job, workspace))


def test_upload_is_small(submission: Submission) -> None:
    """Its only weights are those of the bundled model."""
    weights = [name for name in file_sizes(submission.archive) if name.endswith(".safetensors")]

    assert weights == [f"{submission.prefix}bundled/tiny_phi3/model.safetensors"]
    assert 2e6 < submission.archive.stat().st_size < 12e6


def test_upload_has_only_files_that_git_tracks(submission: Submission, checkout: Checkout) -> None:
    files = set(file_sizes(submission.archive))
    tracked = {submission.prefix + name for name in checkout.git("ls-files").splitlines()}

    added = {"MLproject", "spark_job.py"} if submission.prefix else set()
    assert files - tracked == {f"{submission.prefix}COMMIT", *added}
    assert tracked <= files


def test_request_is_the_spec_and_the_task(submission: Submission) -> None:
    request = dict(submission.job.request)
    spec = json.loads((PROJECT / "databricks" / "spark_cluster.json").read_text())
    packages = [library["pypi"]["package"] for library in request.pop("libraries")]

    assert request.pop("run_name").startswith("MLflow Run for ")
    if submission.target == "databricks":
        assert request.pop("new_cluster") == spec
        task = request.pop("shell_command_task")
        assert set(task) == {"command", "env_vars"}
        assert set(task["env_vars"]) == {"MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"}
        assert task["env_vars"]["MLFLOW_TRACKING_URI"] == "databricks"
    else:  # MLflow's client adds keys to the cluster of a Spark job
        assert spec.items() <= request.pop("new_cluster").items()
        task = request.pop("spark_python_task")
        assert task["python_file"].startswith("dbfs:/mlflow-experiments/")
        assert task["parameters"][:3] == ["fetch", "--env_manager", "local"]
    assert request == {}
    assert sorted(packages) == pin_installed("mlflow", "uv")


def test_uncommitted_changes_are_uploaded(submission: Submission) -> None:
    readme = submission.job.driver.upload / f"{submission.prefix}README.md"

    assert readme.read_text().endswith(UNCOMMITTED_LINE)


def test_job_and_run_succeed(
    submission: Submission, workspace: Workspace, checkout: Checkout
) -> None:
    assert submission.job.wait() == "SUCCESS", submission.job.log[-3000:]
    run = find_run(submission.job, workspace)

    assert run.info.status == "FINISHED"
    assert run.data.tags[runs.STEP] == "fetch"
    assert run.data.params["model.name"] == "tiny_phi3"
    assert run.data.tags[runs.GIT_COMMIT] == checkout.git("rev-parse", "HEAD").strip()
    assert run.data.tags[runs.GIT_DIRTY] == "true"


def test_value_arrives_unchanged(submission: Submission, workspace: Workspace) -> None:
    run_id = find_run(submission.job, workspace).info.run_id
    config = tracking_client(workspace).download_artifacts(run_id, "config.yaml")

    assert TEXT in Path(config).read_text()


def test_tokens_are_not_in_request_run_or_log(submission: Submission, workspace: Workspace) -> None:
    run = find_run(submission.job, workspace)
    written = json.dumps(
        [submission.job.request, run.data.params, run.data.tags, submission.job.log]
    )

    assert not {token for token in (USER_TOKEN, CLUSTER_TOKEN) if token in written}


def test_job_writes_only_to_scratch_and_upload(submission: Submission) -> None:
    """The home folder stays empty; the upload gets no bytecode."""
    driver = submission.job.driver
    unpacked = {str(f.relative_to(driver.upload)) for f in driver.upload.rglob("*") if f.is_file()}

    assert {path.name for path in driver.root.iterdir()} == {"databricks", "home", "tmp"}
    assert list((driver.root / "home").iterdir()) == []
    assert {path.name for path in (driver.root / "tmp/slmflow").iterdir()} <= {
        *("cache", "matplotlib", "store"),
    }
    assert unpacked == set(file_sizes(submission.archive))


def test_error_fails_the_job_with_its_message(checkout: Checkout, workspace: Workspace) -> None:
    """The error: names in Unity Catalog, the workspace's registry, have three parts."""
    job = checkout.submit("databricks-spark", *SUBMISSION_ARGUMENTS["databricks-spark"])

    assert job.wait() == "FAILED"
    run = find_run(job, workspace)
    assert run.info.status == "FAILED"
    assert "the registry is Unity Catalog (databricks-uc)" in run.data.tags["slmflow.error"]
    assert "error: registry.name='slmflow-tiny_phi3'" in " ".join(job.log.split())


def test_spark_job_without_the_project_names_the_make_target(
    checkout: Checkout, workspace: Workspace
) -> None:
    command = f"mlflow run databricks -b databricks --experiment-name {EXPERIMENT} "
    spec = "--backend-config databricks/spark_cluster.json"
    checkout.run_shell(command + spec).check()

    assert workspace.jobs[-1].wait() == "FAILED"
    assert "make databricks-spark" in workspace.jobs[-1].log
    assert find_run(workspace.jobs[-1], workspace).info.status == "FAILED"
