"""A Databricks workspace on loopback: it accepts uploads and runs submitted jobs.

It implements the calls that MLflow's client makes to DBFS and the jobs API. Tracking is an
`mlflow server` behind the same address. Each job runs in a child process; a folder stands for the
driver of its cluster.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import requests

from tests.fixtures.project import Sandbox
from tests.fixtures.server import run_server

USER_TOKEN, CLUSTER_TOKEN = "dapi-of-the-user", "dapi-of-the-cluster"
RUNTIME = "15.4"

_MLFLOW = "/api/2.0/mlflow/"
_UNITY_CATALOG = f"{_MLFLOW}unity-catalog/"
_FILES, _FOLDERS = "/api/2.0/fs/files/", "/api/2.0/fs/directories/"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/"

# Paths at the root of a driver, which lie elsewhere here.
_DBFS = re.compile(r"(?<![\w/])(?=/dbfs/)")
_MLFLOW_FOLDER = re.compile(r"(?<![\w/])(?=/databricks/mlflow/)")
# A stand-in where rsync is not installed: the client's command copies one file to a folder.
_RSYNC = '#!/bin/sh\nwhile [ $# -gt 2 ]; do shift; done\ncp -n "$1" "$2"\n'


@dataclass
class Job:
    """A submitted job: the request, and the process that runs it."""

    run_id: int
    request: dict[str, Any]
    process: "subprocess.Popen[bytes]"
    driver: "Driver"

    @property
    def log(self) -> str:
        """Output of the job so far."""
        return (self.driver.folder / "log.txt").read_text()

    @property
    def state(self) -> dict[str, str]:
        """The state, as the jobs API returns it."""
        status = self.process.poll()
        if status is None:
            return {"life_cycle_state": "RUNNING"}
        return {
            "life_cycle_state": "TERMINATED",
            "result_state": "SUCCESS" if status == 0 else "FAILED",
        }

    def wait(self) -> str:
        """Return the result state once the job has ended."""
        self.process.wait()
        return self.state["result_state"]


@dataclass
class Workspace:
    """A workspace in a folder: DBFS, the drivers, and the jobs so far."""

    folder: Path
    host: str = ""
    tracking: str = ""
    jobs: list[Job] = field(default_factory=list)

    def dbfs(self, path: str) -> Path:
        """Return the file of a DBFS path."""
        return self.folder / "dbfs" / path.lstrip("/")

    def environ(self) -> dict[str, str]:
        """Return the environment variables of a user of the workspace."""
        return {
            "MLFLOW_TRACKING_URI": "databricks",
            "DATABRICKS_HOST": self.host,
            "DATABRICKS_TOKEN": USER_TOKEN,
        }

    def submit(self, request: dict[str, Any]) -> int:
        """Start the job of a request to the jobs API; return its run id."""
        run_id = len(self.jobs) + 1
        driver = self.new_driver()
        task = request.get("shell_command_task")
        command = self._shell(driver, task) if task else self._python(driver, request)
        with (driver.folder / "log.txt").open("wb") as output:
            process = subprocess.Popen(
                command,
                env=driver.environ(
                    **request["new_cluster"]["spark_env_vars"],
                    **(task or {}).get("env_vars", {}),
                ),
                cwd=driver.root,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self.jobs.append(Job(run_id, request, process, driver))
        return run_id

    def new_driver(self) -> "Driver":
        """Return the driver of a new cluster."""
        count = len(list(self.folder.glob("driver-*")))
        return Driver(self.folder / f"driver-{count + 1}", self.host)

    def cancel(self, run_id: int) -> None:
        """End a job and all its processes."""
        process = self.jobs[run_id - 1].process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()

    def close(self) -> None:
        """End all running jobs."""
        for job in self.jobs:
            self.cancel(job.run_id)

    def _shell(self, driver: "Driver", task: dict[str, Any]) -> list[str]:
        return [self._mounted(driver, part) for part in task["command"]]

    def _python(self, driver: "Driver", request: dict[str, Any]) -> list[str]:
        task = request["spark_python_task"]
        code = self.dbfs(task["python_file"].removeprefix("dbfs:")).read_text()
        file = driver.folder / "task.py"
        file.write_text(self._mounted(driver, code))
        return [sys.executable, str(file), *task["parameters"]]

    def _mounted(self, driver: "Driver", text: str) -> str:
        """Return a text with the paths of a driver as they are here."""
        return _MLFLOW_FOLDER.sub(str(driver.root), _DBFS.sub(str(self.folder), text))


@dataclass(frozen=True)
class Driver:
    """The driver of a cluster: `root` stands for the root of its file system."""

    folder: Path
    host: str

    def __post_init__(self) -> None:
        for folder in ("root/tmp", "root/home", "tools"):
            (self.folder / folder).mkdir(parents=True)
        rsync = self.folder / "tools" / "rsync"
        rsync.write_text(_RSYNC)
        rsync.chmod(0o755)

    @property
    def root(self) -> Path:
        """Folder that stands for the root of the driver's file system."""
        return self.folder / "root"

    @property
    def upload(self) -> Path:
        """The unpacked upload of the job."""
        [folder] = (self.root / "databricks/mlflow/projects").iterdir()
        return folder

    def environ(self, **further: str) -> dict[str, str]:
        """Return the environment variables on the driver, with those of spec and task."""
        ours = Path(sys.executable).parent
        return {
            "PATH": os.pathsep.join([str(ours), str(self.folder / "tools"), os.environ["PATH"]]),
            "HOME": str(self.root / "home"),
            "TMPDIR": str(self.root / "tmp"),
            "DATABRICKS_RUNTIME_VERSION": RUNTIME,
            "DATABRICKS_HOST": self.host,
            "DATABRICKS_TOKEN": CLUSTER_TOKEN,
            "HF_ENDPOINT": "http://127.0.0.1:9",  # no server listens there
            **further,
        }


@contextmanager
def open_workspace(folder: Path) -> Iterator[Workspace]:
    """Open a workspace in a folder; its jobs and servers end with the block."""
    opened = Workspace(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(opened))
    opened.host = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    database = f"--backend-store-uri sqlite:///{folder}/tracking.db"
    files = f"--artifacts-destination {folder}/artifacts --default-artifact-root {opened.host}"
    command = f"mlflow server --workers 1 {database} {files}{_ARTIFACTS}artifacts"
    try:
        with run_server(Sandbox(folder), command) as opened.tracking:
            try:
                yield opened
            finally:
                opened.close()
    finally:
        server.shutdown()
        server.server_close()


def _handler(workspace: Workspace) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._answer()

        do_POST = do_PATCH = do_PUT = do_DELETE = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            allowed = {f"Bearer {token}" for token in (USER_TOKEN, CLUSTER_TOKEN)}
            if path == "/.well-known/databricks-config":
                self._send(200, {"oidc_endpoint": f"{workspace.host}/oidc"})
            elif path.startswith(_ARTIFACTS):  # like storage with signed URLs: no token
                self._pass_on(self.path, body)
            elif self.headers.get("Authorization") not in allowed:
                self._send(403, {"error_code": "PERMISSION_DENIED", "message": "token"})
            elif path.startswith(_UNITY_CATALOG):
                self._send(*self._unity_catalog(path.removeprefix(_UNITY_CATALOG), body))
            elif re.match(r"/api/[234]\.0/mlflow/", path):
                self._pass_on(self.path, body)
            else:
                self._send(*self._own(path, body))

        def _own(self, path: str, body: bytes) -> tuple[int, dict[str, Any] | bytes]:
            """Answer a call that is not to MLflow."""
            if self.command == "POST" and path.startswith("/dbfs/"):
                return self._store(workspace.dbfs(path.removeprefix("/dbfs")), body)
            if self.command == "PUT" and path.startswith(_FILES):
                return self._store(workspace.folder / "files" / path.removeprefix(_FILES), body)
            if self.command == "PUT" and path.startswith(_FOLDERS):
                return 200, {}
            if path.startswith((_FILES, _FOLDERS)):
                return self._read(path)
            match path.removeprefix("/api/2.0"):
                case "/dbfs/get-status":
                    file = workspace.dbfs(json.loads(body)["path"])
                    if file.exists():
                        return 200, {"path": str(file), "file_size": file.stat().st_size}
                    missing = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": str(file)}
                    return 404, missing
                case "/jobs/runs/submit":
                    return 200, {"run_id": workspace.submit(json.loads(body))}
                case "/jobs/runs/get":
                    run_id = int(parse_qs(urlsplit(self.path).query)["run_id"][0])
                    return 200, {
                        "run_id": run_id,
                        "job_id": run_id,
                        "run_page_url": f"{workspace.host}/#job/{run_id}/run/1",
                        "state": workspace.jobs[run_id - 1].state,
                    }
                case "/jobs/runs/cancel":
                    workspace.cancel(int(json.loads(body)["run_id"]))
                    return 200, {}
            return 404, {"error_code": "ENDPOINT_NOT_FOUND", "message": f"no {path}"}

        def _read(self, path: str) -> tuple[int, dict[str, Any] | bytes]:
            """Return a file, or the listing of a folder, of the Files API."""
            name = path.removeprefix(_FILES).removeprefix(_FOLDERS)
            found = workspace.folder / "files" / name
            if not (found.is_dir() if path.startswith(_FOLDERS) else found.is_file()):
                return 404, {"error_code": "NOT_FOUND", "message": f"no /{name}"}
            if found.is_file():
                return 200, found.read_bytes()
            contents = [
                {
                    "path": f"/{each.relative_to(workspace.folder / 'files')}",
                    "is_directory": each.is_dir(),
                    "file_size": each.stat().st_size,
                }
                for each in found.iterdir()
            ]
            return 200, {"contents": contents}

        def _store(self, file: Path, body: bytes) -> tuple[int, dict[str, Any]]:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
            return 200, {}

        def _unity_catalog(self, call: str, body: bytes) -> tuple[int, dict[str, Any] | bytes]:
            """Answer a registry call; the server's own registry has most under the same name."""
            query = urlsplit(self.path).query
            match call:
                case "registered-models:is-databricks-sdk-models-artifact-repository-enabled":
                    return 200, {"is_databricks_sdk_models_artifact_repository_enabled": True}
                case "model-versions/emit-lineage":
                    return 200, {}
                case "model-versions/finalize":
                    version = urlencode(json.loads(body))
                    return self._tracking("GET", f"{_MLFLOW}model-versions/get?{version}", b"")
            return self._tracking(self.command, f"{_MLFLOW}{call}?{query}", body)

        def _pass_on(self, path: str, body: bytes) -> None:
            self._send(*self._tracking(self.command, path, body))

        def _tracking(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
            """Forward a call to the tracking server."""
            answer = requests.request(
                method,
                f"{workspace.tracking}{path}",
                data=body,
                headers={"Content-Type": self.headers.get("Content-Type", "application/json")},
                timeout=60,
            )
            return answer.status_code, answer.content

        def _send(self, status: int, content: dict[str, Any] | bytes) -> None:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

    return Handler
