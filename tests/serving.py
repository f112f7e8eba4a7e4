"""A server, `mlflow models serve` or our own, in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tests.project import Workplace


@contextmanager
def served(place: Workplace, command: str, port: Sequence[str] | None = None) -> Iterator[str]:
    """Run a command that serves on a free port of loopback; yield its address once it answers.

    The server and its workers end with the block.
    """
    with subprocess.Popen(
        [*command.split(), *(("--port", str(free_port())) if port is None else port)],
        env=place.environ(),
        cwd=place.folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        try:
            yield address(server)
        finally:
            os.killpg(server.pid, signal.SIGTERM)


def free_port() -> int:
    """Return one for MLflow's server: it takes 0 for none given, and then always the same."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def ask(url: str, request: dict[str, Any]) -> dict[str, Any]:
    """Send a chat request to `/invocations` and return the first completion."""
    body = json.dumps(request).encode()
    headers = {"Content-Type": "application/json"}
    with urllib.request.urlopen(  # noqa: S310
        urllib.request.Request(f"{url}/invocations", body, headers)  # noqa: S310
    ) as answer:
        completions: list[dict[str, Any]] = json.load(answer)
    return completions[0]


def address(server: "subprocess.Popen[str]") -> str:
    """Return where a server listens, as soon as it says so."""
    assert server.stderr is not None
    said = []
    for line in server.stderr:
        said.append(line)
        if " on http://" in line:
            return line.split(" on ")[1].split()[0]
    raise AssertionError("".join(said))
