"""Environments of the servers, one per file of `requirements`, and their processes."""

import hashlib
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parent
_STARTS_IN_S = 180


def python_bin(home: Path, name: str) -> Path:
    """Return the folder of an environment's commands; it is made when first needed."""
    file = FOLDER / "requirements" / f"{name}.txt"
    folder = home / f"{name}-{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
    if not (folder / "complete").exists():
        subprocess.run(["uv", "venv", "--quiet", "--clear", "--python", "3.11", folder], check=True)
        install = ["uv", "pip", "install", "--quiet", "--python", folder, "-r", file]
        subprocess.run(install, check=True)
        (folder / "complete").touch()
    return folder / "bin"


@contextmanager
def running(
    command: list[str | Path],
    folder: Path,
    url: str,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
) -> Iterator[str]:
    """Run a server until the end of the block; yield its URL once it answers anything."""
    log = folder / f"{Path(command[0]).name}-{url.rsplit(':', 1)[1]}.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            stdout=stream,
            stderr=stream,
            start_new_session=True,
            user=user,
        )
    try:
        _wait_for(url, server, log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


def free_url(scheme: str = "http") -> str:
    """Return the URL of a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"{scheme}://127.0.0.1:{probe.getsockname()[1]}"


def _wait_for(url: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    host, port = url.rpartition("//")[2].split(":")
    deadline = time.monotonic() + _STARTS_IN_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise AssertionError(f"{server.args} ended:\n{log.read_text()[-2000:]}")
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise AssertionError(f"{server.args} does not listen:\n{log.read_text()[-2000:]}")


def post(url: str, body: bytes, credentials: str) -> None:
    """Send JSON to a server with basic credentials. Raises HTTPError if it refuses."""
    headers = {"Content-Type": "application/json", "Authorization": f"Basic {credentials}"}
    request = urllib.request.Request(url, body, headers)  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310
