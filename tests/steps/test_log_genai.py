"""The logged model as others meet it: signature, example, pins, and a place without torch."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.pyfunc import PyFuncModel
from mlflow.types.llm import CHAT_MODEL_INPUT_SCHEMA, CHAT_MODEL_OUTPUT_SCHEMA
from mlflow.types.schema import Schema

from slmflow.flavors.genai_pyfunc import requirements
from slmflow.flavors.genai_result import GenaiModel
from slmflow.pipeline import checksums

QUESTION = "What is the capital of France?"

# Runs where only the model's own requirements are installed.
ELSEWHERE = """
import importlib.util, json, sys
import mlflow
absent = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
model = mlflow.pyfunc.load_model(sys.argv[1])
[completion] = model.predict({"messages": [{"role": "user", "content": sys.argv[2]}]})
print(json.dumps({"absent": absent, "choices": completion["choices"]}))
"""


# As a user's process, which keeps the bytecode of what it imports.
ONCE = """
import sys
import mlflow
assert not sys.dont_write_bytecode
mlflow.pyfunc.load_model(sys.argv[1])
"""


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder that is gone afterwards: pytest keeps tmp_path for a while, with all it holds."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def folder_of(model: GenaiModel) -> Path:
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def test_loading_adds_no_file(chat: GenaiModel, tmp_path: Path) -> None:
    """It may be loaded where the server keeps it, and `verify` names every file that is added."""
    folder = Path(shutil.copytree(folder_of(chat), tmp_path / "model"))
    logged = checksums.of(folder)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):
        subprocess.run([sys.executable, "-c", ONCE, str(folder)], env=environment, check=True)
        assert checksums.of(folder) == logged
        assert not list(folder.rglob("__pycache__"))


def test_it_takes_what_the_transformers_flavor_takes_and_more(chat: GenaiModel) -> None:
    """tests/log_transformers holds the other flavor to the same two schemas."""
    info = mlflow.models.get_model_info(chat.model_uri)
    known = len(CHAT_MODEL_INPUT_SCHEMA.inputs)
    assert Schema(info.signature.inputs.inputs[:known]) == CHAT_MODEL_INPUT_SCHEMA
    assert not any(further.required for further in info.signature.inputs.inputs[known:])
    assert info.signature.outputs == CHAT_MODEL_OUTPUT_SCHEMA
    assert info.metadata == {"task": "llm/v1/chat"}


def test_the_prompt_interface_answers_texts(prompted: GenaiModel, pyfunc: PyFuncModel) -> None:
    model = mlflow.pyfunc.load_model(prompted.model_uri)
    signature = model.metadata.signature
    assert signature.inputs.to_dict() == [{"type": "string", "name": "prompt", "required": True}]
    assert signature.outputs.to_dict() == [{"type": "string", "required": True}]
    prompts = [QUESTION, "What is the capital of Japan?"]
    turns = [[{"role": "user", "content": prompt}] for prompt in prompts]
    completions = pyfunc.predict(pd.DataFrame({"messages": turns}))
    expected = [completion["choices"][0]["message"]["content"] for completion in completions]
    assert model.predict(pd.DataFrame({"prompt": prompts})) == expected
    assert model.predict({"prompt": QUESTION}) == expected[:1]


def test_the_model_is_code_with_an_example_and_exact_pins(chat: GenaiModel, onnx: Path) -> None:
    folder = folder_of(chat)
    assert not list(folder.rglob("*.pkl"))
    pins = dict(line.split("==") for line in (folder / "requirements.txt").read_text().split())
    names = (
        "jinja2",
        "joblib",
        "mlflow",
        "numpy",
        "onnxruntime",
        "onnxruntime-genai",
        "pandas",
        "tokenizers",
    )
    assert pins == {name: metadata.version(name) for name in names}
    example = mlflow.models.get_model_info(chat.model_uri).saved_input_example_info
    request = json.loads((folder / example["artifact_path"]).read_text())
    assert mlflow.pyfunc.load_model(chat.model_uri).predict(request)
    assert chat.size_bytes > (onnx / "model.onnx").stat().st_size
    assert mlflow.get_logged_model(chat.model_id).name == "genai"


def test_loading_copies_no_weights(chat: GenaiModel, pyfunc: PyFuncModel, onnx: Path) -> None:
    """The files that the runtime maps are those of the tracking server's own folder."""
    opened = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    weights = [path for path in opened if path.endswith("model.onnx.data")]
    assert str(folder_of(chat) / "artifacts" / onnx.name / "model.onnx.data") in weights


def test_each_version_of_the_code_runs_as_it_was_logged(
    chat: GenaiModel, pyfunc: PyFuncModel, tmp_path: Path
) -> None:
    older = Path(shutil.copytree(folder_of(chat), tmp_path / "older"))
    code = older / "code" / "runtime" / "completions.py"
    code.write_text(code.read_text().replace('"chatcmpl-', '"older-'))
    request = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1}
    [old] = mlflow.pyfunc.load_model(str(older)).predict(request)
    [new] = pyfunc.predict(request)
    assert old["id"].startswith("older-")
    assert new["id"].startswith("chatcmpl-")


def test_a_gpu_runtime_brings_its_own_onnx_runtime() -> None:
    pins = requirements("onnxruntime-genai-cuda")
    assert f"onnxruntime-genai-cuda=={metadata.version('onnxruntime-genai')}" in pins
    assert not [pin for pin in pins if pin.startswith(("onnxruntime==", "onnxruntime-genai=="))]
    assert "onnxruntime-genai-directml==0.1" in requirements("onnxruntime-genai-directml==0.1")


def test_it_answers_where_neither_torch_nor_transformers_is(
    chat: GenaiModel, pyfunc: PyFuncModel, elsewhere: Path
) -> None:
    uv = shutil.which("uv")
    assert uv, "uv must be on the PATH"
    folder, python = folder_of(chat), elsewhere / "venv" / "bin" / "python"
    environment = {
        **{name: os.environ[name] for name in os.environ if name.startswith(("UV_", "SSL_"))},
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{elsewhere}/mlflow.db",
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            command, env=environment, cwd=elsewhere, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(uv, "venv", "--python", "3.11", str(elsewhere / "venv"))
    run(uv, "pip", "install", "--python", str(python), "-r", str(folder / "requirements.txt"))
    answer = json.loads(run(str(python), "-c", ELSEWHERE, str(folder), QUESTION))
    [here] = pyfunc.predict({"messages": [{"role": "user", "content": QUESTION}]})
    assert answer == {"absent": ["torch", "transformers"], "choices": here["choices"]}
