"""A process that imports modules once, and runs others in forks of itself.

MLflow, torch and transformers take about ten seconds to import; a fork has what its parent has
imported. The server imports one module after another while forks work, and forks between two
imports. So it serves at any time, and a fork imports the rest by itself.

Each fork is a process of its own, like `python -m MODULE ARGUMENTS` in another folder and
environment and with other standard streams. `slmflow.system.forked_process` asks for it.

The server has one thread of Python and computes nothing, since the threads of a process do not
exist in its forks. OpenBLAS and jemalloc start threads when they are imported, and end them around
a fork or start them again.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn

from slmflow.console import messages
from slmflow.system.child_processes import terminate_with_parent

LATE_IMPORTS = "LATE_IMPORTS"
"""A module's list of the modules that it imports late: the server imports them early."""

_LENGTH = struct.Struct("!I")
_STREAMS = 3
_CREDENTIALS = struct.Struct("3i")  # pid, uid and gid of the peer: socket(7)

# Read when they are used. Any other variable may have been read by an import.
_CHANGEABLE = ("MLFLOW_", "SLMFLOW_", "DATABRICKS_", "PYTEST_")
_CHANGEABLE_NAMES = ("PATH", "PWD", "PYTHONPATH", "TMPDIR")

# Set by the import of scikit-learn, torch and the runtime, wherever that happens.
_SET_BY_IMPORTS = (
    *("KMP_DUPLICATE_LIB_OK", "KMP_INIT_AT_FORK"),
    *("ORT_DISABLE_TELEMETRY", "ORT_LIB_PATH", "TORCHINDUCTOR_CACHE_DIR"),
)

_state = {"is_fork": False}


def is_fork() -> bool:
    """Return whether this process is a fork of a server."""
    return _state["is_fork"]


@dataclass(frozen=True)
class Request:
    """A module to run in a fork; following: modules to import afterwards."""

    module: str
    arguments: Sequence[str]
    folder: str
    environment: Mapping[str, str]
    following: Sequence[str]


def send(connection: socket.socket, message: Any, streams: Sequence[int] = ()) -> None:
    """Send a JSON value, and file descriptors."""
    data = json.dumps(message).encode()
    socket.send_fds(connection, [_LENGTH.pack(len(data))], streams)
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[Any, list[int]] | None:
    """Return a value and its file descriptors; None if the sender has closed the connection."""
    header, streams, _, _ = socket.recv_fds(connection, _LENGTH.size, _STREAMS)
    if len(header) < _LENGTH.size:
        return None
    data, length = b"", _LENGTH.unpack(header)[0]
    while len(data) < length:
        if not (part := connection.recv(length - len(data))):
            return None
        data += part
    return json.loads(data), streams


def serve(listener: socket.socket, owner: int) -> NoReturn:
    """Serve requests until the other end of the pipe `owner` is closed, and end the process."""
    status = 1
    try:
        _Server(listener, owner).run()
        status = 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


@dataclass
class _Fork:
    pid: int
    handle: int
    connection: socket.socket


class _Server:
    def __init__(self, listener: socket.socket, owner: int) -> None:
        self._listener, self._owner = listener, owner
        self._environment = _fixed(os.environ)
        self._forks: dict[int, _Fork] = {}
        self._waiting: list[str] = []
        self._selector = selectors.DefaultSelector()
        self._selector.register(listener, selectors.EVENT_READ)
        self._selector.register(owner, selectors.EVENT_READ)
        # Ctrl-C is for the processes that ask for forks, and for the forks.
        self._sigint = signal.signal(signal.SIGINT, signal.SIG_IGN) or signal.SIG_DFL
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def run(self) -> None:
        gc.disable()  # imports create many objects and hardly any garbage
        while True:
            ready = [key.fd for key, _ in self._selector.select(0 if self._waiting else None)]
            if self._owner in ready:
                return
            for number in ready:
                if number == self._listener.fileno():
                    self._accept()
                elif fork := self._forks.get(number):
                    self._update(fork, has_ended=number == fork.handle)
            if not ready and self._waiting:
                self._waiting[:1] = _try_import(self._waiting[0])

    def _accept(self) -> None:
        connection, _ = self._listener.accept()
        if _user(connection) != os.getuid() or (received := receive(connection)) is None:
            connection.close()
            return
        fields, streams = received
        request = Request(**fields)
        self._waiting += [name for name in request.following if name not in self._waiting]
        if _fixed(request.environment) == self._environment:
            self._fork(request, streams, connection)
        else:
            connection.close()
        for stream in streams:
            os.close(stream)

    def _fork(self, request: Request, streams: Sequence[int], connection: socket.socket) -> None:
        gc.freeze()  # collections in the fork leave these objects alone, and so shared pages
        server = os.getpid()
        if (pid := os.fork()) == 0:
            terminate_with_parent()
            if os.getppid() != server:
                os._exit(1)
            self._close()
            connection.close()
            signal.signal(signal.SIGINT, self._sigint)
            _run(request, streams)
        fork = _Fork(pid, os.pidfd_open(pid), connection)
        send(connection, {"pid": pid})
        for number in (fork.handle, connection.fileno()):
            self._forks[number] = fork
            self._selector.register(number, selectors.EVENT_READ)

    def _update(self, fork: _Fork, *, has_ended: bool) -> None:
        """Report the end of a fork; end a fork that the process behind it no longer waits for."""
        if not has_ended:
            self._selector.unregister(fork.connection)
            os.kill(fork.pid, signal.SIGTERM)
            return
        _, status = os.waitpid(fork.pid, 0)
        with suppress(OSError):
            send(fork.connection, {"status": os.waitstatus_to_exitcode(status)})
        for number in (fork.handle, fork.connection.fileno()):
            del self._forks[number]
            with suppress(KeyError):
                self._selector.unregister(number)
        os.close(fork.handle)
        fork.connection.close()

    def _close(self) -> None:
        """Close what only the server needs, in a fork."""
        self._selector.close()
        self._listener.close()
        os.close(self._owner)
        for number, fork in self._forks.items():
            if number == fork.handle:
                os.close(number)
                fork.connection.close()


def _fixed(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that an import may have read."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(_CHANGEABLE) and name not in (*_CHANGEABLE_NAMES, *_SET_BY_IMPORTS)
    }


def _user(connection: socket.socket) -> int:
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return int(_CREDENTIALS.unpack(data)[1])


def _try_import(name: str) -> Sequence[str]:
    """Import a module; return the names of modules that it imports late, if it lists them."""
    try:
        module = importlib.import_module(name)
    except Exception:  # the fork that needs the module reports it
        return ()
    late: Sequence[str] = getattr(module, LATE_IMPORTS, ())
    return late


def _run(request: Request, streams: Sequence[int]) -> NoReturn:
    """Run the module as `python -m` does, and end the process."""
    status = 1
    try:
        _adapt_process(request, streams)
        status = _run_module(request.module)
        # What Python does at its end, without freeing every object.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def _adapt_process(request: Request, streams: Sequence[int]) -> None:
    """Give this fork its streams, folder, environment and arguments."""
    _state["is_fork"] = True
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    messages.adapt_to_terminal()
    paths = request.environment.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[1:1] = [path for path in paths if path and path not in sys.path]
    if not sys.flags.safe_path:
        sys.path[0] = request.folder
    sys.argv = [request.module, *request.arguments]
    os.environ.clear()
    os.environ.update(request.environment)
    os.chdir(request.folder)
    tempfile.tempdir = None
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()  # all forks would draw the same numbers
    gc.enable()


def _run_module(module: str) -> int:
    """Run a module and return the status with which it ends the process."""
    sys.modules.pop(module, None)  # runpy would warn that it is imported
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    from slmflow.system import fork_server  # the module that forks import, not this copy of it

    fork_server.serve(socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2]))
