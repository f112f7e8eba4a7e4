"""Run modules in forks of a server that has imported what they need; see `fork_server`."""

import atexit
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from slmflow.paths import PROJECT
from slmflow.system import child_processes, databricks, fork_server
from slmflow.system.fork_server import Request

_ADDRESS = "SLMFLOW_FORK_SERVER"
"""The environment variable with the name of the server's socket."""

_BACKLOG = 64


class ForkedProcess:
    """A running module, with the methods of `subprocess.Popen` that MLflow calls."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        """Take the connection on which the server reports the end of the process."""
        self.pid = pid
        self.returncode: int | None = None
        self._connection = connection

    def wait(self) -> int:
        """Wait for the end; return the exit status, or minus the number of the ending signal."""
        if self.returncode is None:
            received = None
            with suppress(ConnectionError):
                received = fork_server.receive(self._connection)
            # Without a server its forks end too.
            self.returncode = received[0]["status"] if received else -signal.SIGKILL
            self._connection.close()
        return self.returncode

    def poll(self) -> int | None:
        """Return the exit status, None as long as the process runs."""
        if self.returncode is None:
            try:
                self._connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
        return self.wait()

    def terminate(self) -> None:
        """Send SIGTERM."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)


@dataclass(frozen=True)
class _Server:
    """The server of this process: its socket's name, and the pipe whose end ends it."""

    address: str
    pid: int
    owner: int

    def stop(self) -> None:
        """End the server, whose forks have ended."""
        os.close(self.owner)
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


_servers: list[_Server] = []


def is_supported() -> bool:
    """Return whether processes can be forked here: on macOS and Databricks they have threads."""
    return sys.platform == "linux" and databricks.RUNTIME not in os.environ


@contextmanager
def serving() -> Iterator[None]:
    """Have a server that is a fork of this process, with all that it has imported.

    Call it before this process starts threads. In a fork, the server of its parent stays.
    """
    if not is_supported() or fork_server.is_fork() or threading.active_count() > 1:
        yield
        return
    server = _fork_server()
    os.environ[_ADDRESS] = server.address
    try:
        yield
    finally:
        os.environ.pop(_ADDRESS, None)
        server.stop()


def start(
    module: str,
    arguments: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    following: Sequence[str] = (),
) -> ForkedProcess | None:
    """Start `python -m MODULE ARGUMENTS` in a fork; return None if that is impossible.

    It has the standard streams of this process, and gets SIGTERM when this process ends. following:
    modules that the server imports meanwhile.
    """
    if (connection := _connect()) is None:
        return None
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    request = Request(module, arguments, str(folder), dict(environment), following)
    received = None
    with suppress(ConnectionError):
        fork_server.send(connection, asdict(request), streams=(0, 1, 2))
        received = fork_server.receive(connection)
    if received is None:
        connection.close()
        return None
    return ForkedProcess(connection, received[0]["pid"])


def _connect() -> socket.socket | None:
    """Return a connection to the server, which is started if there is none."""
    if not is_supported():
        return None
    if (address := os.environ.get(_ADDRESS)) and (connection := _try_connect(address)):
        return connection
    if not _servers:
        _servers.append(_start_server())
        atexit.register(_servers[0].stop)
    os.environ[_ADDRESS] = _servers[0].address
    return _try_connect(_servers[0].address)


def _try_connect(address: str) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(f"\0{address}")
    except OSError:
        connection.close()
        return None
    return connection


def _listen() -> tuple[socket.socket, str]:
    """Return a socket with a name that is no file: none is left behind when the server is killed.

    Any user can connect to it; the server refuses all but its own.
    """
    address = f"slmflow-{secrets.token_hex(16)}"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"\0{address}")
    listener.listen(_BACKLOG)
    return listener, address


def _fork_server() -> _Server:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    listener, address = _listen()
    reading, writing = os.pipe()
    if (pid := os.fork()) == 0:
        os.close(writing)
        fork_server.serve(listener, reading)
    listener.close()
    os.close(reading)
    return _Server(address, pid, writing)


def _start_server() -> _Server:
    listener, address = _listen()
    reading, writing = os.pipe()
    descriptors = (listener.fileno(), reading)
    process = subprocess.Popen(
        [sys.executable, "-m", "slmflow.system.fork_server", *map(str, descriptors)],
        pass_fds=descriptors,
        env={**os.environ, "PYTHONPATH": child_processes.python_path()},
        cwd=PROJECT,
    )
    listener.close()
    os.close(reading)
    return _Server(address, process.pid, writing)
