"""Modules in forks of a server, in real processes."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

from slmflow.paths import PROJECT
from slmflow.system import forked_process
from slmflow.system.forked_process import ForkedProcess

pytestmark = pytest.mark.skipif(not forked_process.is_supported(), reason="only on Linux")

_MODULES = {
    "shared": "import os\nIMPORTED_IN = os.getpid()\n",
    "lists_shared": "LATE_IMPORTS = ['shared']\n",
    "answers": """
        import json, numpy, os, random, shared, sys
        print(json.dumps({
            "name": __name__,
            "arguments": sys.argv[1:],
            "folder": os.getcwd(),
            "number": os.environ["SLMFLOW_NUMBER"],
            "random": [random.random(), numpy.random.rand()],
            "is_shared": shared.IMPORTED_IN != os.getpid(),
        }))
        print("an error", file=sys.stderr)
        sys.exit(3)
    """,
    "waits": "import signal\nprint('started', flush=True)\nsignal.pause()\n",
    "pauses": "import signal\nsignal.pause()\n",
    "dies": "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n",
    "stops": "import sys\nsys.exit('the reason')\n",
    "breaks": "1 / 0\n",
    "cleans": "import atexit\natexit.register(print, 'cleaned')\n",
}

_STARTER = """
import os
from pathlib import Path
from slmflow.system import forked_process
process = forked_process.start("pauses", [], folder=Path.cwd(), environment=os.environ)
print(process.pid, flush=True)
process.wait()
"""


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Write the modules to a folder that a new server, and its forks, import from."""
    folder = tmp_path_factory.mktemp("modules")
    for name, source in _MODULES.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("PYTHONPATH", f"{PROJECT}{os.pathsep}{folder}")
        yield folder


def _start(
    module: str, *arguments: str, folder: Path, following: Sequence[str] = (), **variables: str
) -> ForkedProcess:
    environment = {**os.environ, **variables}
    process = forked_process.start(
        module, arguments, folder=folder, environment=environment, following=following
    )
    assert process is not None
    return process


def test_fork_is_like_a_new_process(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = _start("answers", "a=1", "b c", folder=folder, SLMFLOW_NUMBER="7")

    assert (process.wait(), process.poll()) == (3, 3)
    printed = capfd.readouterr()
    answer = json.loads(printed.out)
    assert answer["name"] == "__main__"
    assert answer["arguments"] == ["a=1", "b c"]
    assert (answer["folder"], answer["number"]) == (str(folder), "7")
    assert printed.err == "an error\n"


def test_forks_share_imports_and_no_random_numbers(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    following = ["lists_shared", "numpy"]

    # The server imports between two requests.
    for _ in range(100):
        _start("answers", folder=folder, following=following, SLMFLOW_NUMBER="7").wait()
        *_, first = map(json.loads, capfd.readouterr().out.splitlines())
        if first["is_shared"]:
            break
    _start("answers", folder=folder, SLMFLOW_NUMBER="7").wait()

    second = json.loads(capfd.readouterr().out)
    assert first["is_shared"]
    assert second["is_shared"]
    assert not {*first["random"]} & {*second["random"]}


@pytest.mark.parametrize(
    ("module", "status", "message"),
    [
        ("dies", -signal.SIGKILL, ""),
        ("stops", 1, "the reason\n"),
        ("breaks", 1, "ZeroDivisionError"),
        ("no_such_module", 1, "No module named no_such_module"),
    ],
)
def test_status_tells_how_a_fork_ends(
    module: str, status: int, message: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert _start(module, folder=folder).wait() == status
    assert message in capfd.readouterr().err


def test_functions_for_the_end_are_called(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert _start("cleans", folder=folder).wait() == 0
    assert capfd.readouterr().out == "cleaned\n"


def test_terminated_fork_is_interrupted(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    process = _start("waits", folder=folder)
    while "started" not in capfd.readouterr().out:
        assert process.poll() is None

    process.terminate()

    assert process.wait() == 1
    assert "KeyboardInterrupt" in capfd.readouterr().err


def test_no_fork_where_imports_would_differ(folder: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "no"}

    assert forked_process.start("answers", [], folder=folder, environment=environment) is None


def test_fork_where_an_import_has_set_a_variable(folder: Path) -> None:
    assert _start("cleans", folder=folder, KMP_INIT_AT_FORK="FALSE").wait() == 0


_IMPORTER = """
import importlib, os, pkgutil
import steps
from slmflow.system import fork_server
before = fork_server._fixed(os.environ)
for module in pkgutil.iter_modules(steps.__path__, "steps."):
    fork_server._try_import(module.name)
for name in ("optuna", "onnxruntime_genai", "sklearn", "torch", "transformers"):
    importlib.import_module(name)
after = fork_server._fixed(os.environ)
names = [name for name in before.keys() | after if after.get(name) != before.get(name)]
print({name: after.get(name) for name in names})
"""


@pytest.mark.long
def test_imports_change_nothing_that_prevents_forks() -> None:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = [sys.executable, "-c", _IMPORTER]
    output = subprocess.check_output(command, env=environment, text=True)
    assert output.splitlines()[-1] == "{}"


@pytest.mark.parametrize("prepares", [True, False])
def test_fork_ends_with_the_process_that_started_it(folder: Path, prepares: bool) -> None:
    """With the server of its own, and with one that outlives it."""
    environment = {**os.environ, "PYTHONPATH": f"{PROJECT}{os.pathsep}{folder}"}
    if prepares:
        _start("cleans", folder=folder).wait()  # has started this process's server
    else:
        environment.pop("SLMFLOW_FORK_SERVER", None)
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER], cwd=folder, env=environment, stdout=subprocess.PIPE
    )
    assert starter.stdout is not None
    fork = psutil.Process(int(starter.stdout.readline()))

    starter.kill()
    starter.communicate()

    assert psutil.wait_procs([fork], timeout=30)[1] == []
