"""How a server ends: exit status, run, traces, messages, processes."""

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

from slmflow.pipeline import step_runner
from slmflow.pipeline.results import GenaiModel
from steps.serve import serve
from tests.fixtures.project import Sandbox
from tests.fixtures.waiting import wait_until
from tests.serving.calls import NUMBERS, QUESTION, metric, start_request
from tests.serving.conftest import KEY, Server, serving


def is_listening(server: Server) -> bool:
    address = urlsplit(server.url)
    try:
        socket.create_connection((address.hostname, address.port)).close()
    except ConnectionError:
        return False
    return True


@pytest.mark.parametrize(
    ("stop_signal", "tracing"), [(signal.SIGTERM, "usage"), (signal.SIGINT, "content")]
)
def test_stop_signal_finishes_requests_in_progress(
    chat: GenaiModel, tmp_path: Path, stop_signal: signal.Signals, tracing: str
) -> None:
    experiment = mlflow.create_experiment(str(tmp_path), (tmp_path / "artifacts").as_uri())
    settings = (f"serve.model_uri={chat.model_uri}", f"serve.tracing={tracing}")
    with serving(tmp_path / "s", *settings, MLFLOW_EXPERIMENT_ID=experiment) as server:
        with server.paused():
            whole, stream = start_request(server), start_request(server, stream=True)
            invocation = start_request(server, "/invocations")
            wait_until(lambda: metric(server, "slmflow_requests_waiting") == 3)
            server.process.send_signal(stop_signal)
            wait_until(lambda: not is_listening(server))
        completion = json.loads(whole.getresponse().read())
        events = stream.getresponse().read().decode()
        assert "Paris" in invocation.getresponse().read().decode()
        status, errors = server.wait()
    assert completion["choices"][0]["message"]["content"] == "The capital of France is Paris."
    assert events.endswith("data: [DONE]\n\n")
    assert status == 0
    assert not any(secret in errors for secret in (KEY, "France", "Paris", "error", "Traceback"))
    [run] = mlflow.search_runs([experiment], output_format="list")
    assert run.info.status == "FINISHED"
    assert KEY not in str(run.data)
    traces = mlflow.search_traces(locations=[experiment], return_type="list")
    assert len(traces) == 3
    for trace in traces:
        assert trace.info.token_usage["output_tokens"] == completion["usage"]["completion_tokens"]
        [span] = trace.data.spans
        assert span.attributes["slmflow.time_to_first_token_ms"] > 0
        text = json.dumps(trace.to_dict())
        assert ("capital of France?" in text) == ("Paris" in text) == (tracing == "content")
        assert KEY not in text
    artifacts = [file for file in (tmp_path / "artifacts").rglob("*") if file.is_file()]
    assert artifacts
    assert not any(KEY.encode() in file.read_bytes() for file in artifacts)


def test_server_ends_with_its_model(chat: GenaiModel, tmp_path: Path) -> None:
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
            whole = start_request(server)
            os.kill(server.model_pid, signal.SIGKILL)
        response = whole.getresponse()
        assert response.status == 500
        assert json.loads(response.read())["error"]["message"] == "the model's process ended"
        with pytest.raises(openai.APIError, match="the model's process ended"):
            list(stream)
        status, errors = server.wait()
    assert status == 1
    assert errors.count("\n") == 1
    assert "the model is unavailable: its process was ended by SIGKILL" in errors


def test_model_ends_with_its_server(chat: GenaiModel, tmp_path: Path) -> None:
    with serving(tmp_path / "s", f"serve.model_uri={chat.model_uri}") as server:
        model = os.pidfd_open(server.model_pid)
        server.process.kill()
        ended, _, _ = select.select([model], [], [], 60)
        os.close(model)
    assert ended


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("serve.model_uri=models:/nobody@1", "serve.model_uri='models:/nobody@1': no model can"),
        ("registry.name=none", "or run the workflow first"),
        ("serve.port=70000 serve.tracing=all", "serve.tracing"),
        ("serve.origins=[http://localhost:3000/]", "'http://localhost:3000/' is not an origin"),
        ("serve.origins=[localhost]", "'localhost' is not an origin: give scheme, host and port"),
    ],
)
@pytest.mark.usefixtures("tracking")
def test_invalid_arguments_are_reported(
    arguments: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert step_runner.run("serve", serve, ["serve.port=0", *arguments.split()]) == 2
    [_, printed] = " ".join(capsys.readouterr().err.split()).split("error: ")
    assert message in printed


def test_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as occupied:
        port = occupied.getsockname()[1]
        done = Sandbox(tmp_path).run_step("serve", f"serve.port={port}")
    assert done.status == 1
    assert f"serve.port={port}: Address already in use" in done.message
