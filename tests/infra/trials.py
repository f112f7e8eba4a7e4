"""What is tried: each trial takes a workplace and returns what came of it, or raises."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.file_utils import make_tarfile

from slmflow.paths import PROJECT
from tests.infra import environments

REQUIREMENTS = ("s3", "gcs", "azure", "postgres")
FEW_ROWS = ("target=cpu_fp32", "evaluation.limit=4", "measurement.timed_rows=1")
_ADMIN, _PASSWORD = "admin", "a-long-password"
_KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
_POSTGRES = Path("/usr/lib/postgresql")
_NO_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # nine processes less


@dataclass
class Workplace:
    """A folder for everything that trials write. home: the environments, which stay."""

    folder: Path
    home: Path
    environment: dict[str, str] = field(default_factory=dict)

    def step(self, name: str, *arguments: str, **environment: str) -> str:
        """Run a step that must succeed; return what it printed."""
        result = self._run([sys.executable, "-m", f"steps.{name}", *arguments], environment)
        assert result.returncode == 0, result.stderr[-3000:]
        return result.stderr

    def refused(self, name: str, *arguments: str, **environment: str) -> str:
        """Run a step that must fail with one message; return it."""
        result = self._run([sys.executable, "-m", f"steps.{name}", *arguments], environment)
        return _message(result)

    def mlflow_run(self, uri: str, *arguments: str, **environment: str) -> str:
        """Run `mlflow run` in the workplace; return its output, or the message if it fails."""
        command = [str(Path(sys.executable).with_name("mlflow")), "run", uri, *arguments]
        result = self._run([*command, "--env-manager", "local"], environment, path="")
        return result.stderr if result.returncode == 0 else _message(result)

    def server(self, name: str, *options: str, **environment: str) -> AbstractContextManager[str]:
        """Return the context of an MLflow server of one of the environments, with SQLite."""
        url = environments.free_url()
        database = f"sqlite:///{self.folder}/{url.rsplit(':', 1)[1]}.db"
        command = [environments.python_bin(self.home, name) / "mlflow", "server", "--workers", "1"]
        port = ["--port", url.rsplit(":", 1)[1], "--backend-store-uri", database]
        return environments.running(
            [*command, *port, *options], self.folder, url, {**_KEYS, **_NO_JOBS, **environment}
        )

    def _run(
        self, command: list[str], environment: dict[str, str], path: str = str(PROJECT)
    ) -> "subprocess.CompletedProcess[str]":
        names = {
            "SLMFLOW_HOME": str(self.folder / "store"),
            "PYTHONPATH": path,
            "MLFLOW_TRACKING_URI": f"sqlite:///{self.folder}/mlflow.db",
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "MLFLOW_S3"))}
        return subprocess.run(
            command,
            cwd=self.folder,
            env={**clean, **names, **self.environment, **environment},
            capture_output=True,
            text=True,
        )


def _message(result: "subprocess.CompletedProcess[str]") -> str:
    """Return the only error of a failed command."""
    assert result.returncode != 0, result.stderr[-3000:]
    assert "Traceback" not in result.stderr, result.stderr[-3000:]
    [_, message] = re.split("^error: ", result.stderr, flags=re.MULTILINE)
    return message.splitlines()[0]


@contextmanager
def _s3(place: Workplace) -> Iterator[dict[str, str]]:
    """Run S3 by moto with the bucket `team`; yield the variables of a client."""
    url = environments.free_url()
    command = [environments.python_bin(place.home, "moto") / "moto_server", "-H", "127.0.0.1"]
    with environments.running([*command, "-p", url.rsplit(":", 1)[1]], place.folder, url):
        subprocess.run(["curl", "-sf", "-X", "PUT", f"{url}/team"], check=True)
        yield {**_KEYS, "MLFLOW_S3_ENDPOINT_URL": url}


def _s3_object(keys: dict[str, str], name: str) -> bytes:
    """Return an object of the bucket `team`, which moto gives to its owner only."""
    import boto3  # only in the environment of these trials

    s3 = boto3.client(
        "s3",
        endpoint_url=keys["MLFLOW_S3_ENDPOINT_URL"],
        aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    return bytes(s3.get_object(Bucket="team", Key=name)["Body"].read())


def requirements_resolve(place: Workplace) -> str:
    """requirements-s3, -gcs, -azure and -postgres with all pins"""
    for name in REQUIREMENTS:
        file = PROJECT / f"requirements-{name}.txt"
        command = ["uv", "pip", "compile", "--quiet", "--python-version", "3.11", str(file)]
        subprocess.run(command, check=True, capture_output=True)
    return "each resolves"


def direct_s3(place: Workplace) -> str:
    """the workflow, artifacts in S3 without proxy; then `batch` from S3 to S3"""
    root = ("--no-serve-artifacts", "--default-artifact-root", "s3://team/mlflow")
    with _s3(place) as keys, place.server("server", *root) as url:
        place.step("main", *FEW_ROWS, **keys, MLFLOW_TRACKING_URI=url)
        again = place.step("main", *FEW_ROWS, **keys, MLFLOW_TRACKING_URI=url)
        assert "reused" in again
        upload = f"{keys['MLFLOW_S3_ENDPOINT_URL']}/team/rows.jsonl"
        rows = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"
        few = place.folder / "rows.jsonl"
        few.write_text("\n".join(rows.read_text().splitlines()[:3]) + "\n")
        subprocess.run(["curl", "-sf", "-T", str(few), upload], check=True)
        files = ("batch.input=s3://team/rows.jsonl", "batch.output=s3://team/answers.jsonl")
        files += ("batch.columns.answer=said",)
        place.step("batch", *files, **keys, MLFLOW_TRACKING_URI=url)
        answers = _s3_object(keys, "answers.jsonl")
        assert len(answers.splitlines()) == 3
        existing = place.refused("batch", *files, **keys, MLFLOW_TRACKING_URI=url)
        assert "s3://team/answers.jsonl' already exists" in existing
    return "registered, reused; 3 answers"


def s3_without_credentials(place: Workplace) -> str:
    """artifacts in S3 without credentials, and S3 that is down"""
    root = ("--no-serve-artifacts", "--default-artifact-root", "s3://team/mlflow")
    with place.server("server", *root) as url:
        denied = place.refused("fetch", MLFLOW_TRACKING_URI=url, AWS_EC2_METADATA_DISABLED="true")
        assert "the artifact store s3://team/mlflow cannot be used (Unable to locate" in denied
        nowhere = {**_KEYS, "MLFLOW_S3_ENDPOINT_URL": environments.free_url()}
        down = place.refused("fetch", MLFLOW_TRACKING_URI=url, **nowhere)
        assert "the artifact store s3://team/mlflow cannot be used (Could not connect" in down
    return denied


def proxied_s3_down(place: Workplace) -> str:
    """S3 behind the tracking server, down"""
    nowhere = {"MLFLOW_S3_ENDPOINT_URL": environments.free_url()}
    with place.server("server", "--artifacts-destination", "s3://team", **nowhere) as url:
        message = place.refused("fetch", MLFLOW_TRACKING_URI=url)
    assert "answers, but cannot use its artifact store" in message, message
    return message


def postgresql(place: Workplace) -> str:
    """a PostgreSQL database as tracking store"""
    binaries = max(_POSTGRES.glob("*/bin"))
    folder = place.folder / "postgres"
    folder.mkdir(mode=0o700)
    place.folder.chmod(0o711)
    user = "postgres" if os.getuid() == 0 else None
    if user:
        shutil.chown(folder, user)
    initialize = [binaries / "initdb", "-D", folder / "data", "-A", "trust", "-U", "team"]
    subprocess.run(initialize, check=True, capture_output=True, user=user, cwd="/")
    url = environments.free_url("postgresql")
    port = url.rsplit(":", 1)[1]
    command = [binaries / "postgres", "-D", folder / "data", "-p", port, "-k", folder]
    with environments.running([*command], place.folder, url, user=user):
        uri = f"postgresql://team:secret@127.0.0.1:{port}/postgres"
        place.step("fetch", MLFLOW_TRACKING_URI=uri)
        place.step("fetch", MLFLOW_TRACKING_URI=uri.replace("postgresql:", "postgresql+psycopg:"))
    down = place.refused("fetch", MLFLOW_TRACKING_URI=uri)
    assert "secret" not in down
    return "works; down: " + down


def old_server(place: Workplace) -> str:
    """a server of MLflow 2.22"""
    with place.server("mlflow_2_22") as url:
        message = place.refused("main", MLFLOW_TRACKING_URI=url)
    assert "is MLflow 2.22.5" in message, message
    return message


def server_3_14(place: Workplace) -> str:
    """the workflow on a server of MLflow 3.14, from two experiments, and on fewer rows"""
    with place.server("mlflow_3_14") as url:
        client = MlflowClient(url)
        for name in ("ann", "bob"):
            experiment = {"MLFLOW_EXPERIMENT_ID": client.create_experiment(name)}
            place.step("main", *FEW_ROWS, MLFLOW_TRACKING_URI=url, **experiment)
        assert len(client.search_model_versions("name='slmflow-tiny_phi3'")) == 1
        fewer = place.step(
            "main", *FEW_ROWS, "evaluation.limit=2", MLFLOW_TRACKING_URI=url, **experiment
        )
        assert "which keeps its metrics" in fewer
        version = client.get_model_version("slmflow-tiny_phi3", "1")
        assert version.tags["slmflow_n"] == "4"
    return "one version for both; the metrics of 4 rows stay when 2 are measured"


def basic_auth(place: Workplace) -> str:
    """a second user on a server with basic-auth"""
    settings = place.folder / "auth.ini"
    settings.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{place.folder}/auth.db\n"
        f"admin_username = {_ADMIN}\nadmin_password = {_PASSWORD}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    names = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "key"}
    with place.server("server", "--app-name", "basic-auth", **names) as url:
        admin = base64.b64encode(f"{_ADMIN}:{_PASSWORD}".encode()).decode()
        for name in ("ann", "bob"):
            user = json.dumps({"username": name, "password": _PASSWORD}).encode()
            environments.post(f"{url}/api/2.0/mlflow/users/create", user, admin)
        model = json.dumps({"name": "slmflow-tiny_phi3"}).encode()
        ann = base64.b64encode(f"ann:{_PASSWORD}".encode()).decode()
        environments.post(f"{url}/api/2.0/mlflow/registered-models/create", model, ann)

        bob = {"MLFLOW_TRACKING_USERNAME": "bob", "MLFLOW_TRACKING_PASSWORD": _PASSWORD}
        login = dict(bob, MLFLOW_TRACKING_URI=url, MLFLOW_EXPERIMENT_NAME="bob")
        message = place.refused("main", *FEW_ROWS, **login)
        assert "registry.name=slmflow-tiny_phi3-bob" in message, message
        place.step("main", *FEW_ROWS, "registry.name=slmflow-tiny_phi3-bob", **login)
    return message


def relative_database(place: Workplace) -> str:
    """`mlflow run` with a relative `sqlite:///` URI, and a deleted experiment"""
    other = {"MLFLOW_TRACKING_URI": "sqlite:///mine.db"}
    relative = place.mlflow_run(str(PROJECT), "-e", "fetch", **other)
    assert "is a relative path" in relative, relative
    client = MlflowClient(f"sqlite:///{place.folder}/deleted.db")
    experiment = client.create_experiment("gone")
    client.delete_experiment(experiment)
    names = {"MLFLOW_TRACKING_URI": f"sqlite:///{place.folder}/deleted.db"}
    deleted = place.refused("fetch", **names, MLFLOW_EXPERIMENT_ID=experiment)
    assert f"mlflow experiments restore --experiment-id {experiment}" in deleted
    return relative


def git_server(place: Workplace) -> str:
    """`mlflow run` of a git server's address, by branch; a relative output of `batch`"""
    served = place.folder / "git"
    subprocess.run(
        ["git", "clone", "--quiet", "--bare", PROJECT, served / "slmflow.git"], check=True
    )
    url = environments.free_url("git")
    port = url.rsplit(":", 1)[1]
    options = ["--export-all", "--reuseaddr", "--listen=127.0.0.1", f"--port={port}"]
    daemon = ["git", "daemon", *options, f"--base-path={served}"]
    with environments.running([*daemon], place.folder, url):
        branch = subprocess.check_output(
            ["git", "-C", served / "slmflow.git", "branch", "--show-current"], text=True
        ).strip()
        place.mlflow_run(f"{url}/slmflow.git", "-e", "fetch", "--version", branch)
        rows = PROJECT / "bundled" / "capitals" / "evaluation.jsonl"
        message = place.mlflow_run(
            f"{url}/slmflow.git", "-e", "batch", "-P", f"input={rows}", "-P", "output=a.jsonl"
        )
    assert "which is a temporary clone here" in message, message
    return message


def upload_size(place: Workplace) -> str:
    """what `mlflow run . -b databricks` uploads of a checkout after `make`"""
    checkout = place.folder / "checkout"
    subprocess.run(["git", "clone", "--quiet", PROJECT, checkout], check=True)
    names = {**os.environ, "XDG_CACHE_HOME": str(place.folder / "cache")}
    subprocess.run(["make", ".venv"], cwd=checkout, env=names, check=True, capture_output=True)
    sizes = []
    for left_out in ((), (".git",)):
        file = place.folder / "project.tar.gz"

        def keep(entry: tarfile.TarInfo, left_out: tuple[str, ...] = left_out) -> object:
            return None if Path(entry.name).name in left_out else entry

        make_tarfile(str(file), str(checkout), "mlflow-project", custom_filter=keep)
        sizes.append(file.stat().st_size / 1e6)
    assert sizes[1] < 12
    of_git = sizes[0] - sizes[1]
    return f"{sizes[0]:.0f} MB, {of_git:.0f} of them .git; `make databricks` sends the rest"


TRIALS: tuple[Callable[[Workplace], str], ...] = (
    *(requirements_resolve, direct_s3, s3_without_credentials, proxied_s3_down, postgresql),
    *(old_server, server_3_14, basic_auth, relative_database, git_server, upload_size),
)
