"""The server with the bundled model in each flavor."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
from openai import OpenAI

from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel, TransformersModel
from tests.fixtures.server import read_address

KEY = "sesame"
MOST_WAITING = 8


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    process: "subprocess.Popen[str]"

    def client(self, key: str = KEY) -> OpenAI:
        """OpenAI's client, without retries."""
        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0)

    @property
    def model_pid(self) -> int:
        """The id of the model's process."""
        pid = self.process.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the model's process within the block."""
        pid = self.model_pid
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def wait(self) -> tuple[int, str]:
        """Return the exit status, and standard error since the server listened."""
        _, errors = self.process.communicate(timeout=60)
        return self.process.returncode, errors


@contextmanager
def serving(folder: Path, *arguments: str, **environment: str) -> Iterator[Server]:
    """Run `python -m steps.serve` on a free loopback port, with an API key."""
    folder.mkdir(exist_ok=True)
    with subprocess.Popen(
        [sys.executable, "-m", "steps.serve", "serve.port=0", *arguments],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(PROJECT),
            "MLFLOW_TRACKING_URI": mlflow.get_tracking_uri(),
            "SLMFLOW_API_KEY": KEY,
            **environment,
        },
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Server(read_address(process), process)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(30)
                finally:
                    process.kill()


def served_by(names: Iterable[str]) -> list[Any]:
    """Return the names of server fixtures as parameters; loading torch is slow."""
    return [
        pytest.param(name, marks=[pytest.mark.long] if name == "torch_server" else [])
        for name in names
    ]


@pytest.fixture(scope="session")
def server(chat: GenaiModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The GenAI flavor, served."""
    settings = (f"serve.model_uri={chat.model_uri}", f"serve.most_waiting={MOST_WAITING}")
    with serving(tmp_path_factory.mktemp("serve"), *settings) as running:
        yield running


@pytest.fixture(scope="session")
def keyless_server(chat: GenaiModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The GenAI flavor, served without a key."""
    uri = f"serve.model_uri={chat.model_uri}"
    with serving(tmp_path_factory.mktemp("serve"), uri, SLMFLOW_API_KEY="") as running:
        yield running


@pytest.fixture(scope="session")
def torch_server(
    pipeline: TransformersModel, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The transformers flavor, served."""
    folder = tmp_path_factory.mktemp("serve")
    with serving(folder, f"serve.model_uri={pipeline.model_uri}") as running:
        yield running


@pytest.fixture(scope="session")
def older_model(
    onnx: Path, chat: GenaiModel, experiment: str, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The URI of a GenAI model logged before the serving protocol had a version."""
    folder = tmp_path_factory.mktemp("older")
    zipfile.ZipFile(Path(__file__).parent / "data" / "unversioned_runtime.zip").extractall(folder)
    return log_with_runtime(folder / "model.py", folder / "runtime", onnx, chat, experiment)


@pytest.fixture(scope="session")
def older_server(older_model: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The older model, served."""
    with serving(tmp_path_factory.mktemp("serve"), f"serve.model_uri={older_model}") as running:
        yield running


def log_with_runtime(
    model_code: Path, runtime: Path, onnx: Path, chat: GenaiModel, experiment: str
) -> str:
    """Log the bundled model with another runtime, and return its URI."""
    logged = mlflow.models.get_model_info(chat.model_uri)
    config = logged.flavors["python_function"]["config"]
    with mlflow.start_run(experiment_id=experiment):
        info = mlflow.pyfunc.log_model(
            name="genai",
            python_model=str(model_code),
            code_paths=[str(runtime)],
            artifacts={"model": str(onnx)},
            model_config=config,
            signature=logged.signature,
            pip_requirements=["mlflow"],
        )
    return info.model_uri
