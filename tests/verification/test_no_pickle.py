"""Logged models neither contain nor need a pickle."""

import pickletools
import subprocess
import sys
import zipfile
from pathlib import Path

import cloudpickle
import mlflow
import pytest
import torch

from slmflow.paths import PROJECT
from slmflow.pipeline.results import LoggedModel

QUESTION = "What is the capital of France?"

# Loads a model and sends it a question in a process where every way to unpickle raises.
WITHOUT_PICKLE = """
import pickle, sys

def refuse(*_, **__):
    raise RuntimeError("unpickling is disabled")

class Refused(pickle.Unpickler):
    load = refuse

class RefusedInPython(pickle._Unpickler):
    load = refuse

def refuse_in_c(event, arguments):
    if event == "pickle.find_class":
        refuse()

import cloudpickle, joblib
pickle.load = pickle.loads = cloudpickle.load = cloudpickle.loads = joblib.load = refuse
pickle.Unpickler, pickle._Unpickler = Refused, RefusedInPython
sys.addaudithook(refuse_in_c)
if "torch" in sys.argv[3:]:
    import torch
    torch.load = refuse

if sys.argv[3] == "probe":
    import _pickle, io
    by_class = [lambda data, kind=kind: kind(io.BytesIO(data)).load() for kind in
                (pickle.Unpickler, pickle._Unpickler, _pickle.Unpickler)]
    for attempt in (pickle.loads, cloudpickle.loads, _pickle.loads, *by_class):
        try:
            attempt(bytes.fromhex(sys.argv[1]))
        except RuntimeError as error:
            print(error)
    sys.exit()

import mlflow
model = mlflow.pyfunc.load_model(sys.argv[1])
[completion] = model.predict({"messages": [{"role": "user", "content": sys.argv[2]}]})
print(completion["choices"][0]["message"]["content"])
"""


def run_without_pickle(*arguments: str) -> str:
    """Run the program above; return its output."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PICKLE, *arguments],
        capture_output=True,
        text=True,
        cwd=PROJECT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def folder_of(model: LoggedModel) -> Path:
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def is_pickle(file: Path) -> bool:
    """Return whether a file is a pickle, or a zip archive, which may contain one."""
    if zipfile.is_zipfile(file):
        return True
    try:
        with file.open("rb") as stream:
            return any(opcode.name == "STOP" for opcode, _, _ in pickletools.genops(stream))
    except (ValueError, IndexError, OverflowError):  # what genops raises for other files
        return False


@pytest.mark.parametrize(("flavor", "mode"), [("chat", "runtime"), ("pipeline", "torch")])
def test_model_loads_and_answers_without_pickle(
    request: pytest.FixtureRequest, flavor: str, mode: str
) -> None:
    folder = folder_of(request.getfixturevalue(flavor))
    assert run_without_pickle(str(folder), QUESTION, mode) == "The capital of France is Paris."


def test_disabled_pickle_raises_in_every_way() -> None:
    pickled = cloudpickle.dumps(Path("here")).hex()
    assert run_without_pickle(pickled, "", "probe").splitlines() == ["unpickling is disabled"] * 6


@pytest.mark.parametrize("flavor", ["chat", "pipeline"])
def test_no_file_of_a_model_is_a_pickle(request: pytest.FixtureRequest, flavor: str) -> None:
    files = list(folder_of(request.getfixturevalue(flavor)).rglob("*"))
    assert len(files) > 10
    assert [file for file in files if file.is_file() and is_pickle(file)] == []


def test_every_kind_of_pickle_is_detected(tmp_path: Path) -> None:
    for protocol in range(6):
        file = tmp_path / f"{protocol}.pkl"
        file.write_bytes(cloudpickle.dumps({"a": [1]}, protocol=protocol))
        assert is_pickle(file)
    torch.save({"a": torch.ones(1)}, tmp_path / "model.bin")
    torch.save({"a": 1}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    assert is_pickle(tmp_path / "model.bin") and is_pickle(tmp_path / "old.bin")
