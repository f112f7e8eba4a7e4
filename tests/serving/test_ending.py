"""How a server ends, and what it leaves: exit status, run, traces, messages, and no process."""

import json
import os
import select
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import mlflow
import openai
import pytest

from slmflow.flavors.genai_result import GenaiModel
from tests.fixtures.project import Workplace
from tests.fixtures.server.calls import NUMBERS, QUESTION, begin, figure
from tests.fixtures.server.conftest import KEY, Server, serving, until


def listens(server: Server) -> bool:
    address = urlsplit(server.url)
    try:
        socket.create_connection((address.hostname, address.port)).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize(
    ("told", "tracing"), [(signal.SIGTERM, "usage"), (signal.SIGINT, "content")]
)
def test_told_to_stop_it_finishes_what_is_in_flight(
    chat: GenaiModel, tmp_path: Path, told: signal.Signals, tracing: str
) -> None:
    experiment = mlflow.create_experiment(str(tmp_path), (tmp_path / "artifacts").as_uri())
    settings = (f"serve.model_uri={chat.model_uri}", f"serve.tracing={tracing}")
    with serving(tmp_path / "s", *settings, MLFLOW_EXPERIMENT_ID=experiment) as server:
        with server.paused():
            whole, stream = begin(server), begin(server, stream=True)
            by_mlflow = begin(server, "/invocations")
            until(lambda: figure(server, "slmflow_requests_waiting") == 3)
            server.process.send_signal(told)
            until(lambda: not listens(server))
        answer = json.loads(whole.getresponse().read())
        events = stream.getresponse().read().decode()
        assert "Paris" in by_mlflow.getresponse().read().decode()
        status, said = server.ended()
    assert answer["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert events.endswith("data: [DONE]\n\n")
    assert status == 0
    assert not any(secret in said for secret in (KEY, "France", "Paris", "error", "Traceback"))
    [run] = mlflow.search_runs([experiment], output_format="list")
    assert run.info.status == "FINISHED"
    assert KEY not in str(run.data)
    traces = mlflow.search_traces(locations=[experiment], return_type="list")
    assert len(traces) == 3
    for trace in traces:
        assert trace.info.token_usage["output_tokens"] == answer["usage"]["completion_tokens"]
        [span] = trace.data.spans
        assert span.attributes["slmflow.time_to_first_token_ms"] > 0
        held = json.dumps(trace.to_dict())
        assert ("capital of France?" in held) == ("Paris" in held) == (tracing == "content")
        assert KEY not in held
    kept = [file for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]
    assert kept
    assert not any(KEY.encode() in file.read_bytes() for file in kept)


def test_with_the_model_it_ends_too(chat: GenaiModel, tmp_path: Path) -> None:
    with serving(tmp_path / "s", f"serve.model_uri={chat.model_uri}") as server:
        stream = server.client().chat.completions.create(
            model="tiny_phi3",
            messages=QUESTION,
            stream=True,
            max_tokens=400,
            response_format=NUMBERS,
        )
        next(iter(stream))
        with server.paused():
            whole = begin(server)
            os.kill(server.model, signal.SIGKILL)
        answer = whole.getresponse()
        assert answer.status == 500
        assert json.loads(answer.read())["error"]["message"] == "the model's process ended"
        with pytest.raises(openai.APIError, match="the model's process ended"):
            list(stream)
        status, said = server.ended()
    assert status == 1
    assert said.count("\n") == 1
    assert "the model cannot answer any more: its process was ended by SIGKILL" in said


def test_without_the_server_the_model_ends_too(chat: GenaiModel, tmp_path: Path) -> None:
    with serving(tmp_path / "s", f"serve.model_uri={chat.model_uri}") as server:
        model = os.pidfd_open(server.model)
        server.process.kill()
        ended, _, _ = select.select([model], [], [], 60)
        os.close(model)
    assert ended


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["model_uri=models:/nobody@1"], 2, "serve.model_uri='models:/nobody@1': no model can"),
        (["registry.name=none"], 2, "or run the workflow first"),
        (["port=70000", "tracing=all"], 2, "serve.tracing"),
    ],
)
def test_what_cannot_be_served_is_told(
    tmp_path: Path, arguments: list[str], status: int, words: str
) -> None:
    given = [part if part.startswith("registry") else f"serve.{part}" for part in arguments]
    done = Workplace(tmp_path).step("serve", "serve.port=0", *given)
    assert done.status == status
    assert words in done.errors
    assert "Traceback" not in done.errors
    assert len(done.messages) == 1


def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = Workplace(tmp_path).step("serve", f"serve.port={port}")
    assert done.status == 1
    assert f"serve.port={port}: Address already in use" in done.errors
    assert len(done.messages) == 1
