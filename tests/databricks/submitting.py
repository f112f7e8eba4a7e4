"""Submit the project to a workspace as a user does, with `make databricks` in a checkout."""

import os
import shlex
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.paths import PROJECT
from tests.databricks.workspace import Job, Workspace
from tests.fixtures.project import CommandResult, Sandbox

EXPERIMENT = "/Users/me@example.com/slmflow"
UNCOMMITTED_LINE = "a line that is not committed"
# Files that git ignores, as left in a checkout by earlier work.
IGNORED_FILES = (".venv/lib/torch.so", "mlflow.db", "mlruns/0/meta.yaml", "steps/__pycache__/a.pyc")


@dataclass(frozen=True)
class Checkout:
    """A git checkout of the project in a folder, and the workspace it is submitted to."""

    folder: Path
    workspace: Workspace

    def submit(self, target: str, *arguments: str) -> Job:
        """Run a make target and return the job that it started."""
        self.make(target, "--experiment-name", EXPERIMENT, *arguments).check()
        return self.workspace.jobs[-1]

    def make(self, target: str, *arguments: str) -> CommandResult:
        """Run `make TARGET ARGS=...`."""
        return self.run_shell(shlex.join(["make", target, f"ARGS={shlex.join(arguments)}"]))

    def run_shell(self, line: str) -> CommandResult:
        """Run a line in the checkout, as a user of the workspace."""
        sandbox = Sandbox(self.workspace.folder, self.workspace.environ())
        return sandbox.run_shell(line, cwd=self.folder)

    def git(self, *arguments: str) -> str:
        """Run git in the checkout and return its output."""
        who = ("-c", "user.name=test", "-c", "user.email=test@example.com")
        return subprocess.run(
            ["git", *who, *arguments], cwd=self.folder, check=True, capture_output=True, text=True
        ).stdout


def create_checkout(folder: Path, workspace: Workspace) -> Checkout:
    """Return a checkout of the current project, with a change and with ignored files."""
    checkout = Checkout(folder, workspace)
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, folder / name)
    checkout.git("init", "--quiet")
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", "Project")
    with (folder / "README.md").open("a") as readme:
        readme.write(UNCOMMITTED_LINE)
    for name in IGNORED_FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(1_000_000))
    os.utime(folder / ".venv")  # newer than its sources: make does not rebuild it
    return checkout


def find_upload(job: Job, workspace: Workspace) -> Path:
    """Return the archive of the project that a job has unpacked."""
    name = f"{job.driver.upload.name}.tar.gz"
    [archive] = workspace.dbfs("mlflow-experiments").rglob(name)
    return archive


def file_sizes(archive: Path) -> dict[str, int]:
    """Return the size in bytes of each file of an archive, by its path in the project."""
    with tarfile.open(archive) as tar:
        return {
            member.name.removeprefix("mlflow-project/"): member.size
            for member in tar.getmembers()
            if member.isfile()
        }


def tracking_client(workspace: Workspace) -> MlflowClient:
    """Return a client of the workspace's tracking server, at the server's own URL."""
    return MlflowClient(workspace.tracking)


def find_run(job: Job, workspace: Workspace) -> Run:
    """Return the run that the client made for a job."""
    query = f"tags.`mlflow.databricks.shellJobRunID` = '{job.run_id}'"
    experiment = tracking_client(workspace).get_experiment_by_name(EXPERIMENT)
    [run] = tracking_client(workspace).search_runs([experiment.experiment_id], query)
    return run
