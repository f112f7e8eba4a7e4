"""A token that the tokenizer knows and the model does not: only its own request is rejected."""

import json
import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slmflow.paths import PROJECT
from slmflow.pipeline.results import GenaiModel
from tests.fixtures.waiting import wait_until
from tests.serving.calls import QUESTION, call, metric, status_and_message
from tests.serving.conftest import Server, log_with_runtime, serving

EXTRA, EXTRA_ID = "<|extra|>", 1024


@pytest.fixture(scope="module")
def extra_server(
    onnx: Path, chat: GenaiModel, experiment: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """The bundled model with a special token more than its vocabulary has."""
    folder = tmp_path_factory.mktemp("extra")
    shutil.copytree(onnx, folder / "onnx")
    file = folder / "onnx" / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokenizer["added_tokens"].append(
        {**tokenizer["added_tokens"][-1], "id": EXTRA_ID, "content": EXTRA}
    )
    file.write_text(json.dumps(tokenizer))
    runtime = Path(shutil.copytree(PROJECT / "slmflow" / "runtime", folder / "code" / "runtime"))
    code = folder / "code" / "flavors" / "genai_model.py"
    code.parent.mkdir()
    shutil.copy(PROJECT / "slmflow" / "flavors" / code.name, code)
    uri = log_with_runtime(code, runtime, folder / "onnx", chat, experiment)
    with serving(folder / "serve", f"serve.model_uri={uri}") as running:
        yield running


REQUESTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "chat": (
        "/v1/chat/completions",
        {"messages": QUESTION},
        {"messages": [{"role": "user", "content": f"What is {EXTRA}?"}]},
    ),
    "text": (
        "/v1/completions",
        {"prompt": "The capital of", "max_tokens": 8},
        {"prompt": f"The capital of {EXTRA}", "max_tokens": 8},
    ),
    "token ids": (
        "/v1/completions",
        {"prompt": [263, 264, 265], "max_tokens": 8},
        {"prompt": [263, EXTRA_ID, 265], "max_tokens": 8},
    ),
    "token ids beyond the tokenizer": (
        "/v1/completions",
        {"prompt": [263, 264, 265], "max_tokens": 8},
        {"prompt": [263, 10**12, 265], "max_tokens": 8},
    ),
}


def _without_ids(body: str) -> str:
    """Return a response without the fields that differ for each request."""
    return re.sub(r'"(id|created)": ?("[^"]*"|\d+)', "", body)


@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("stream", [False, True])
def test_only_the_request_with_the_token_is_rejected(
    extra_server: Server, name: str, stream: bool
) -> None:
    path, known, unknown = REQUESTS[name]
    bodies = [{**body, "stream": stream} for body in (known, unknown, known)]
    with ThreadPoolExecutor(3) as pool:
        with extra_server.paused():  # so that they reach the model together
            pending = [pool.submit(call, extra_server, "POST", path, body) for body in bodies]
            wait_until(lambda: metric(extra_server, "slmflow_requests_waiting") == 3)
        (first, _, answer), rejected, (last, _, other) = (each.result() for each in pending)
    assert (first, last) == (200, 200)
    assert _without_ids(answer) == _without_ids(other)
    status, message = status_and_message(rejected)
    assert status == 400
    assert (str(10**12) if "beyond" in name else f"'{EXTRA}', whose id is {EXTRA_ID}") in message
    assert json.loads(rejected[2])["error"]["param"] == ("messages" if name == "chat" else "prompt")
