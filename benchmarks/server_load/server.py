"""A server in a child process: the project's, `python -m steps.serve`, or another one."""

import signal
import subprocess
import threading
import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO, cast

from openai import APIError, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness import process_tree
from benchmarks.harness.installation import CURRENT, Installation
from benchmarks.models import logged_models
from slmflow.errors import UserError

# For the requests in progress, and to exit.
_SHUTDOWN_S = 60


@dataclass(frozen=True)
class RunningServer:
    """A running server."""

    url: str
    pid: int
    api_key: str = "none"
    client: OpenAI = field(init=False)

    def __post_init__(self) -> None:
        """Create OpenAI's client, without retries, so that every error counts."""
        client = OpenAI(base_url=f"{self.url}/v1", api_key=self.api_key, max_retries=0)
        object.__setattr__(self, "client", client)

    @property
    def model(self) -> str:
        """The name of the served model."""
        [model] = self.client.models.list()
        return model.id

    def rss_bytes(self) -> int:
        """Return the current memory of the server and the model's process."""
        return process_tree.rss_bytes(self.pid)

    def metrics(self) -> dict[str, float]:
        """Return the metrics without labels."""
        with urllib.request.urlopen(f"{self.url}/metrics") as response:  # noqa: S310 (own address)
            page = response.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if not sample.labels
        }


@contextmanager
def serving(
    model_uri: str,
    *overrides: str,
    api_key: str | None = None,
    installation: Installation = CURRENT,
) -> Iterator[RunningServer]:
    """Serve a model of the current tracking database on a free loopback port.

    overrides: further settings; api_key: one that the server requires; installation: the version of
    the project that serves. Raises UserError if the server exits, or does not respond to a request.
    """
    settings = [f"serve.model_uri={model_uri}", "serve.port=0", *overrides]
    environment = {**installation.environment(), **logged_models.tracking_variables()}
    if api_key:
        environment["SLMFLOW_API_KEY"] = api_key
    command = [str(installation.python), "-m", "steps.serve", *settings]
    with run_server(command, environment, api_key) as server:
        yield server


@contextmanager
def run_server(
    command: Sequence[str], environment: Mapping[str, str], api_key: str | None = None
) -> Iterator[RunningServer]:
    """Run a command that serves OpenAI's API, and that writes its address to standard error.

    Raises UserError if it exits, or does not respond to a request.
    """
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        last_lines: deque[str] = deque(maxlen=20)
        stderr = cast(TextIO, process.stderr)
        # A full pipe would block the server.
        reader = threading.Thread(target=last_lines.extend, args=(stderr,))
        try:
            address = _wait_for_address(stderr, last_lines)
            reader.start()
            server = RunningServer(address, process.pid, api_key or "none")
            with server.client:
                yield server
        except (APIError, OSError) as error:
            if process.poll() is None:
                raise UserError(f"the server did not respond: {error}") from error
            raise _exit_error(last_lines) from error
        finally:
            _stop(process)
            if reader.ident is not None:
                reader.join()


def _wait_for_address(stderr: TextIO, last_lines: deque[str]) -> str:
    """Return the address that the server reports."""
    for line in stderr:
        last_lines.append(line)
        if " on http://" in line:
            return line.split(" on ")[1].strip()
    raise _exit_error(last_lines)


def _exit_error(last_lines: deque[str]) -> UserError:
    last = last_lines[-1].strip().removeprefix("error: ") if last_lines else "without a message"
    return UserError(f"the server exited: {last}")


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_SHUTDOWN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
