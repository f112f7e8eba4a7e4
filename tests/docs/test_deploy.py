"""docs/deploy.md and deploy/, run or validated without Docker and without a cloud."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from databricks.sdk.service.serving import EndpointCoreConfigInput
from packaging.requirements import Requirement

from slmflow.flavors.pins import pin_installed
from slmflow.paths import PROJECT
from slmflow.registry import versions
from tests.fixtures.project import CommandResult, Sandbox
from tests.fixtures.server import run_server

DEPLOY = PROJECT / "deploy"
TEXT = (PROJECT / "docs" / "deploy.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
]
NAME, ALIAS = "slmflow-tiny_phi3", "candidate"

# azure-ai-ml's telemetry needs another opentelemetry-sdk than MLflow's pins.
AZURE_VALIDATOR = "azure-ai-ml==1.35.2"
AZURE_VALIDATION = """
import json, sys
from azure.ai.ml import load_online_deployment, load_online_endpoint
from marshmallow import ValidationError

endpoint, deployment, misspelt = sys.argv[1:]
try:
    load_online_deployment(misspelt)
except ValidationError:
    pass
else:
    raise SystemExit("it accepts anything")
endpoint, deployment = load_online_endpoint(endpoint), load_online_deployment(deployment)
inference = deployment.environment.inference_config
routes = inference.liveness_route, inference.readiness_route, inference.scoring_route
print(json.dumps({
    "endpoint": [endpoint.name, endpoint.auth_mode],
    "deployment": [deployment.endpoint_name, deployment.name, deployment.instance_type],
    "context": str(deployment.environment.path),
    "routes": [[route.port, route.path] for route in routes],
    "timeout_ms": deployment.request_settings.request_timeout_ms,
}))
"""
# In place of Docker's client: saves the build context and the arguments.
DOCKER = """#!/bin/sh
[ "$1" = build ] || { echo 27.0.0; exit; }
echo "$@" > "$BUILT.arguments"
cp -r . "$BUILT"
"""


def command(start: str) -> str:
    """Return the command of docs/deploy.md with this prefix."""
    [match] = {line for line in COMMANDS if line.startswith(start)}
    return match


@dataclass(frozen=True)
class Container:
    """The output of `generate-dockerfile` for one flavor, beside a copy of deploy/."""

    sandbox: Sandbox
    flavor: str

    @property
    def folder(self) -> Path:
        return self.sandbox.folder / "deploy" / "container"

    @property
    def dockerfile(self) -> list[str]:
        return (self.folder / "Dockerfile").read_text().splitlines()

    @property
    def model(self) -> Path:
        """The folder that the Dockerfile copies."""
        [copied] = [line.split() for line in self.dockerfile if line.startswith("COPY ")]
        assert copied[2] == "/opt/ml/model"
        return self.folder / copied[1]

    @property
    def requirements(self) -> list[str]:
        return (self.model / "requirements.txt").read_text().splitlines()


def call(sandbox: Sandbox, line: str) -> CommandResult:
    done = sandbox.run_shell(line)
    assert done.status == 0, done.errors
    return done


FLAVORS = [
    pytest.param("chat", id="genai"),
    # Loading torch is slow; it is in the files of this flavor that MLflow itself writes.
    pytest.param("pipeline", id="transformers", marks=pytest.mark.long),
]


@pytest.fixture(scope="module", params=FLAVORS)
def container(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    """The registered model of each flavor, by the document's own command."""
    logged = request.getfixturevalue(request.param)
    versions.register_version(NAME, [ALIAS], logged.model_uri, "", {})
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "deploy").mkdir()
    (folder / "deploy" / "request.json").write_bytes((DEPLOY / "request.json").read_bytes())
    sandbox = Sandbox(folder, {"MLFLOW_TRACKING_URI": mlflow.get_tracking_uri()})
    call(sandbox, command("mlflow models generate-dockerfile "))
    yield Container(sandbox, logged.flavor)


def test_image_uses_python_version_of_logging(container: Container) -> None:
    version = ".".join(map(str, sys.version_info[:3]))
    environment = yaml.safe_load((container.model / "python_env.yaml").read_text())
    conda = yaml.safe_load((container.model / "conda.yaml").read_text())

    assert f"FROM python:{version}-slim" in container.dockerfile
    assert environment["python"] == version
    assert environment["dependencies"] == ["-r requirements.txt"]
    assert f"python={version}" in conda["dependencies"]
    assert conda["dependencies"][-1] == {"pip": container.requirements}


def test_image_installs_pins_and_serves(container: Container) -> None:
    text = "\n".join(container.dockerfile)
    [entrypoint] = [line for line in container.dockerfile if line.startswith("ENTRYPOINT ")]

    assert f"RUN pip install {pin_installed('mlflow')[0]}\n" in text
    assert (
        "C._install_pyfunc_deps('/opt/ml/model', install_mlflow=False, env_manager='local')" in text
    )
    assert "C._serve('local')" in json.loads(entrypoint.removeprefix("ENTRYPOINT "))[-1]


def test_requirements_match_installed_versions(container: Container) -> None:
    names = [Requirement(line).name for line in container.requirements]

    assert container.requirements == pin_installed(*names)
    assert ("torch" in names) == ("transformers" in names) == (container.flavor == "transformers")


def test_requirements_resolve(container: Container) -> None:
    """For the image's Python; no package of the GenAI flavor requires torch."""
    python = ".".join(map(str, sys.version_info[:2]))
    path = container.model / "requirements.txt"

    done = call(container.sandbox, f"uv pip compile -q --python-version {python} {path}")

    resolved = {Requirement(line).name for line in done.output.splitlines() if "==" in line}
    assert {Requirement(line).name for line in container.requirements} <= resolved
    heavy = resolved & {"torch", "transformers"}
    assert heavy == ({"torch", "transformers"} if container.flavor == "transformers" else set())


def test_image_model_serves_documented_request(container: Container) -> None:
    """From its files alone, at Azure's routes."""
    curl = command("curl http://127.0.0.1:8080/invocations ")
    deployment = yaml.safe_load((DEPLOY / "azure_ml" / "deployment.yml").read_text())
    routes = deployment["environment"]["inference_config"]
    assert routes["scoring_route"]["path"] in curl

    with run_server(
        container.sandbox, f"mlflow models serve -m {container.model} --env-manager local"
    ) as url:
        answer = call(container.sandbox, curl.replace("http://127.0.0.1:8080", url)).output
        for route in ("liveness_route", "readiness_route"):
            call(container.sandbox, f"curl --fail {url}{routes[route]['path']}")

    assert "The capital of France is Paris." in answer


def test_build_docker_uses_same_folder(container: Container, tmp_path: Path) -> None:
    docker, built = tmp_path / "docker", tmp_path / "built"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    build = command("mlflow models build-docker ")

    call(container.sandbox, f"PATH={tmp_path}:$PATH BUILT={built} {build}")

    arguments = shlex.split(Path(f"{built}.arguments").read_text())
    assert arguments[1:3] == ["-t", shlex.split(command("docker run --rm -p 8080:8080 "))[-1]]
    assert _contents(built) == _contents(container.folder)


@pytest.mark.parametrize("container", ["chat"], ids=["genai"], indirect=True, scope="module")
def test_registered_model_moves_as_folder(container: Container) -> None:
    """It is downloaded and registered again, in another registry."""
    sandbox = Sandbox(container.sandbox.folder)

    call(container.sandbox, command("mlflow artifacts download "))
    call(sandbox, command("python -c "))

    downloaded = sandbox.folder / "deploy" / "model"
    assert _contents(downloaded).keys() == _contents(container.model).keys()
    entity = _databricks()["config"]["served_entities"][0]
    version = sandbox.client.get_model_version(entity["entity_name"], entity["entity_version"])
    assert version.status == "READY"


def test_databricks_endpoint_fields_are_known() -> None:
    """`from_dict` drops unknown fields, so all of them must come back."""
    endpoint = _databricks()

    config = EndpointCoreConfigInput.from_dict(endpoint["config"])

    assert config.as_dict() == endpoint["config"]
    assert f"/serving-endpoints/{endpoint['name']}/invocations" in command('curl "$DATABRICKS_HOST')
    assert endpoint["config"]["served_entities"][0]["entity_name"] in command("python -c ")


def test_azure_validates_deployment_files(tmp_path: Path) -> None:
    """With Azure's own package, which also rejects an unknown field."""
    (tmp_path / "container").mkdir()
    (tmp_path / "azure_ml").mkdir()
    files = [tmp_path / "azure_ml" / name for name in ("endpoint.yml", "deployment.yml")]
    for file in files:
        file.write_bytes((DEPLOY / "azure_ml" / file.name).read_bytes())
    misspelt = tmp_path / "azure_ml" / "misspelt.yml"
    misspelt.write_text(files[1].read_text().replace("instance_count", "instances"))
    run = ["uv", "run", "--quiet", "--no-project", "--python", "3.11", "--with"]

    done = subprocess.run(
        [*run, AZURE_VALIDATOR, "python", "-c", AZURE_VALIDATION, *files, misspelt],
        cwd=tmp_path,
        env=os.environ | {"AZURE_CORE_COLLECT_TELEMETRY": "no"},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr
    read = json.loads(done.stdout.splitlines()[-1])
    name = read["endpoint"][0]
    assert read["endpoint"][1] == "key"
    assert read["deployment"] == [name, ALIAS, "Standard_F4s_v2"]
    assert Path(read["context"]) == tmp_path / "container"
    assert read["routes"] == [[8080, "/ping"], [8080, "/ping"], [8080, "/invocations"]]
    assert read["timeout_ms"] == 180_000
    # The naming rule, which only the service checks.
    assert re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{1,30}[A-Za-z0-9]", name)


def test_commands_name_existing_files() -> None:
    kinds = {shlex.split(line)[0] for line in COMMANDS}
    assert kinds == {"mlflow", "docker", "kubectl", "curl", "az", "export", "python", "databricks"}
    written = {"deploy/container", "deploy/model"}
    for path in set(re.findall(r"deploy/[\w./]+\w", "\n".join(COMMANDS))) - written:
        assert (PROJECT / path).exists()


def test_command_outputs_are_ignored_by_git() -> None:
    assert (DEPLOY / ".gitignore").read_text().split() == ["container/", "model/"]


def _databricks() -> dict[str, Any]:
    endpoint: dict[str, Any] = json.loads(
        (DEPLOY / "databricks" / "serving_endpoint.json").read_text()
    )
    return endpoint


def _contents(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, without MLflow's record of the download time."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "registered_model_meta"
    }
