"""The logged GenAI model: signature, example, pins, and answers without torch."""

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

from slmflow.flavors.genai_pyfunc import pip_requirements
from slmflow.pipeline import checksums
from slmflow.pipeline.results import GenaiModel
from slmflow.pipeline.run_links import FLAVOR_TAG

QUESTION = "What is the capital of France?"

# Runs in an environment with only the model's own requirements.
ANSWER_SCRIPT = """
import importlib.util, json, sys
import mlflow
absent = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
model = mlflow.pyfunc.load_model(sys.argv[1])
[completion] = model.predict({"messages": [{"role": "user", "content": sys.argv[2]}]})
print(json.dumps({"absent": absent, "choices": completion["choices"]}))
"""

# Like a user's process, which writes bytecode for what it imports.
LOAD_SCRIPT = """
import sys
import mlflow
assert not sys.dont_write_bytecode
mlflow.pyfunc.load_model(sys.argv[1])
"""


@pytest.fixture
def temporary_folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a folder and remove it; pytest would keep its large environment for a while."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def model_folder(model: GenaiModel) -> Path:
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def test_loading_adds_no_file(chat: GenaiModel, tmp_path: Path) -> None:
    """The model may be loaded from the artifact store, and `verify` reports added files."""
    folder = Path(shutil.copytree(model_folder(chat), tmp_path / "model"))
    logged = checksums.compute(folder)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(2):
        subprocess.run(
            [sys.executable, "-c", LOAD_SCRIPT, str(folder)], env=environment, check=True
        )
        assert checksums.compute(folder) == logged
        assert not list(folder.rglob("__pycache__"))


def test_chat_signature_extends_that_of_transformers(chat: GenaiModel) -> None:
    """tests/flavors/test_transformers_pipeline.py checks the other flavor's schemas."""
    info = mlflow.models.get_model_info(chat.model_uri)
    messages, *options = CHAT_MODEL_INPUT_SCHEMA.to_dict()
    [our_messages, *ours] = info.signature.inputs.to_dict()
    for option in options:
        if option["name"] == "tools":  # of any JSON schema; theirs has no nested parameters
            option["type"] = "any"
            del option["items"]
    reasoning = our_messages["items"]["properties"].pop("reasoning_content")
    assert reasoning == {"type": "string", "required": False}
    assert our_messages == messages
    assert [option for option in options if option not in ours] == []
    assert not any(field["required"] for field in ours)
    assert info.signature.outputs == CHAT_MODEL_OUTPUT_SCHEMA
    assert info.metadata == {"task": "llm/v1/chat"}


def test_prompt_interface_returns_text(prompted: GenaiModel, pyfunc: PyFuncModel) -> None:
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


def test_logged_model_has_no_pickle_an_example_and_pins(chat: GenaiModel, onnx: Path) -> None:
    folder = model_folder(chat)
    assert not list(folder.rglob("*.pkl"))
    pins = dict(line.split("==") for line in (folder / "requirements.txt").read_text().split())
    names = "jinja2 joblib mlflow numpy onnxruntime onnxruntime-genai pandas tokenizers"
    assert pins == {name: metadata.version(name) for name in names.split()}
    example = mlflow.models.get_model_info(chat.model_uri).saved_input_example_info
    request = json.loads((folder / example["artifact_path"]).read_text())
    assert mlflow.pyfunc.load_model(chat.model_uri).predict(request)
    assert chat.size_bytes > (onnx / "model.onnx").stat().st_size
    logged = mlflow.get_logged_model(chat.model_id)
    assert logged.name == "tiny_phi3 cpu_fp32 max48"
    assert logged.tags[FLAVOR_TAG] == "genai"


def test_loading_copies_no_weights(chat: GenaiModel, pyfunc: PyFuncModel, onnx: Path) -> None:
    """The runtime maps the files in the artifact store."""
    opened = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    weights = [path for path in opened if path.endswith("model.onnx.data")]
    assert str(model_folder(chat) / "artifacts" / onnx.name / "model.onnx.data") in weights


def test_each_model_runs_the_code_it_was_logged_with(
    chat: GenaiModel, pyfunc: PyFuncModel, tmp_path: Path
) -> None:
    older = Path(shutil.copytree(model_folder(chat), tmp_path / "older"))
    code = older / "code" / "runtime" / "completions.py"
    code.write_text(code.read_text().replace('"chatcmpl-', '"older-'))
    request = {"messages": [{"role": "user", "content": QUESTION}], "max_tokens": 1}
    [old] = mlflow.pyfunc.load_model(str(older)).predict(request)
    [new] = pyfunc.predict(request)
    assert old["id"].startswith("older-")
    assert new["id"].startswith("chatcmpl-")


def test_gpu_runtime_replaces_the_cpu_packages() -> None:
    pins = pip_requirements("onnxruntime-genai-cuda")
    assert f"onnxruntime-genai-cuda=={metadata.version('onnxruntime-genai')}" in pins
    assert not [pin for pin in pins if pin.startswith(("onnxruntime==", "onnxruntime-genai=="))]
    assert "onnxruntime-genai-directml==0.1" in pip_requirements("onnxruntime-genai-directml==0.1")


def test_model_answers_without_torch_and_transformers(
    chat: GenaiModel, pyfunc: PyFuncModel, temporary_folder: Path
) -> None:
    uv = shutil.which("uv")
    assert uv, "uv must be on the PATH"
    folder, python = model_folder(chat), temporary_folder / "venv" / "bin" / "python"
    environment = {
        **{name: os.environ[name] for name in os.environ if name.startswith(("UV_", "SSL_"))},
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_TRACKING_URI": f"sqlite:///{temporary_folder}/mlflow.db",
    }

    def run(*command: str) -> str:
        process = subprocess.run(
            command,
            env=environment,
            cwd=temporary_folder,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert process.returncode == 0, process.stderr
        return process.stdout

    run(uv, "venv", "--python", "3.11", str(temporary_folder / "venv"))
    run(uv, "pip", "install", "--python", str(python), "-r", str(folder / "requirements.txt"))
    answer = json.loads(run(str(python), "-c", ANSWER_SCRIPT, str(folder), QUESTION))
    [expected] = pyfunc.predict({"messages": [{"role": "user", "content": QUESTION}]})
    assert answer == {"absent": ["torch", "transformers"], "choices": expected["choices"]}
