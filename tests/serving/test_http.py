"""The HTTP interface: statuses, bodies, queue, API key, /invocations, /metrics."""

import json
import re
import socket
import subprocess
from typing import Any
from urllib.parse import urlsplit

import mlflow
import openai
import pytest
from mlflow.pyfunc import PyFuncModel

from tests.fixtures.waiting import wait_until
from tests.serving.calls import NUMBERS, QUESTION, call, metric, start_request, status_and_message
from tests.serving.conftest import KEY, MOST_WAITING, Server

LONG: Any = {"max_tokens": 400, "response_format": NUMBERS}


def test_curl_streams(server: Server) -> None:
    body = json.dumps({"messages": QUESTION, "stream": True})
    url, key = f"{server.url}/v1/chat/completions", f"Authorization: Bearer {KEY}"
    command = ["curl", "-sN", url, "-H", key, "-H", "Content-Type: application/json", "-d", body]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    *chunks, done = [line for line in output.splitlines() if line]
    assert done == "data: [DONE]"
    pieces = [json.loads(chunk.removeprefix("data: "))["choices"][0]["delta"] for chunk in chunks]
    text = "".join(piece.get("content", "") for piece in pieces)
    assert text == "The capital of France is Paris."


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/v1/chat/completions", b"{", 400, "the body is not JSON"),
        ("/v1/chat/completions", b"[]", 400, "not a JSON object"),
        ("/v1/chat/completions", b"[" * 100_000, 400, "the body is not JSON"),
        ("/v1/chat/completions", b"{}", 400, "messages=None: give a list"),
        ("/v1/chat/completions", b'{"model": "gpt-4"}', 404, "model='gpt-4' is not served"),
        ("/v1/chat/completions", b'{"stream": 1}', 400, "stream=1: must be true or false"),
        ("/v1/chat/completions", b" " * 1_000_001, 413, "larger than 1,000,000 bytes"),
        ("/v1/completions", b'{"prompt": [1, "a"]}', 400, "prompt: give a text, a list"),
        ("/v1/completions", b'{"prompt": "a", "echo": 1}', 400, "echo=1: must be true or false"),
        ("/v1/completions", b'{"prompt": ""}', 400, "the prompt has no tokens"),
        ("/v1/completions", b'{"prompt": "a", "seed": 1' + b"0" * 400 + b"}", 400, "seed=1000"),
        ("/v1/completions", b'{"prompt": "\\ud800"}', 400, "half a character"),
        ("/v1/embeddings", b"{}", 404, "Not Found"),
    ],
)
def test_invalid_request_has_status_and_openai_error(
    server: Server, path: str, body: bytes, status: int, message: str
) -> None:
    actual, text = status_and_message(call(server, "POST", path, body))
    assert actual == status
    assert message in text


def test_wrong_method_is_rejected(server: Server) -> None:
    assert status_and_message(call(server, "GET", "/v1/chat/completions"))[0] == 405


def test_text_parts_and_developer_role_are_accepted(server: Server) -> None:
    parts = [{"type": "text", "text": "What is the capital "}, {"type": "text", "text": "of Peru?"}]
    messages = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": parts}]
    body = {"messages": messages, "user": "me", "metadata": {"a": "b"}}
    status, _, text = call(server, "POST", "/v1/chat/completions", body)
    assert status == 200
    assert "Lima" in json.loads(text)["choices"][0]["message"]["content"]
    image = [{"type": "image_url", "image_url": {"url": "data:"}}]
    body = {"messages": [{"role": "user", "content": image}]}
    assert status_and_message(call(server, "POST", "/v1/chat/completions", body))[0] == 400


@pytest.mark.parametrize("flavor", ["server", "torch_server"])
def test_invocations_equals_predict(flavor: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(flavor)
    fixture = {"server": "chat", "torch_server": "pipeline"}[flavor]
    model: PyFuncModel = mlflow.pyfunc.load_model(request.getfixturevalue(fixture).model_uri)
    body = {"messages": QUESTION, "max_tokens": 32}
    [expected] = model.predict(body)
    status, _, text = call(server, "POST", "/invocations", body)
    assert status == 200
    [response] = json.loads(text)
    assert response["choices"] == expected["choices"]
    assert response["usage"] == expected["usage"]


def test_older_model_answers_invocations(older_server: Server) -> None:
    before = metric(older_server, "slmflow_completion_tokens_total")
    status, _, text = call(older_server, "POST", "/invocations", {"messages": QUESTION})
    assert status == 200
    [response] = json.loads(text)
    assert "Paris" in response["choices"][0]["message"]["content"]
    generated = metric(older_server, "slmflow_completion_tokens_total") - before
    assert generated == response["usage"]["completion_tokens"]


def test_invalid_invocations_are_rejected(server: Server) -> None:
    assert call(server, "POST", "/invocations", {"a": 1})[0] == 400
    assert call(server, "POST", "/invocations", b"a", **{"Content-Type": "text/html"})[0] == 415


def test_api_key_is_required(server: Server) -> None:
    assert server.client().models.list().data
    with pytest.raises(openai.AuthenticationError, match="the API key is wrong or missing"):
        server.client("sesam").models.list()
    assert call(server, "GET", "/health", Authorization="")[0] == 200
    for path in ("/v1/models", "/metrics"):
        assert status_and_message(call(server, "GET", path, Authorization=""))[0] == 401
    for path in ("/v1/chat/completions", "/invocations"):
        response = call(server, "POST", path, {}, Authorization="Basic sesame")
        assert status_and_message(response)[0] == 401


def test_health_responds_while_model_is_busy(server: Server) -> None:
    with server.paused():
        waiting = start_request(server, stream=False)
        wait_until(lambda: metric(server, "slmflow_requests_waiting") == 1)
        assert call(server, "GET", "/health")[0] == 200
    assert waiting.getresponse().status == 200


def test_full_queue_rejects_with_retry_after(server: Server) -> None:
    """Half of the waiting clients disconnect, which frees their places at once."""
    chat = "/v1/chat/completions"
    with server.paused():
        waiting = [start_request(server, stream=number % 2 == 0) for number in range(MOST_WAITING)]
        wait_until(lambda: metric(server, "slmflow_requests_waiting") == MOST_WAITING)
        for path, stream in ((chat, True), (chat, False), ("/invocations", False)):
            rejected = call(server, "POST", path, {"messages": QUESTION, "stream": stream})
            assert status_and_message(rejected) == (
                429,
                "8 requests are waiting already: retry later",
            )
            assert int(rejected[1]["retry-after"]) >= 1
        for connection in waiting[:4]:
            connection.close()
        wait_until(lambda: metric(server, "slmflow_requests_waiting") == MOST_WAITING - 4)
    assert [connection.getresponse().status for connection in waiting[4:]] == [200] * 4
    wait_until(lambda: metric(server, "slmflow_requests_running") == 0)


@pytest.mark.parametrize("flavor", ["server", "older_server"])
@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/v1/chat/completions", {"stream": True}),
        ("/v1/chat/completions", {"stream": False}),
        ("/invocations", {}),
    ],
)
def test_disconnect_cancels_the_request(
    flavor: str, path: str, options: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    server: Server = request.getfixturevalue(flavor)
    names = ("slmflow_completion_tokens_total", "slmflow_requests_cancelled_total")
    generated, cancelled = (metric(server, name) for name in names)
    connection = start_request(server, path, **options, **LONG)
    wait_until(lambda: metric(server, "slmflow_requests_running") == 1)
    with server.paused():
        connection.close()
        wait_until(lambda: metric(server, names[1]) == cancelled + 1)
    wait_until(lambda: metric(server, "slmflow_requests_running") == 0)
    assert metric(server, names[0]) - generated < LONG["max_tokens"]


def test_disconnect_while_sending_is_harmless(server: Server) -> None:
    for sent in (b"", b'{"messages"'):
        address = urlsplit(server.url)
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
                b"Authorization: Bearer sesame\r\nContent-Length: 99\r\n\r\n" + sent
            )
    assert call(server, "GET", "/health")[0] == 200


def test_metrics_count_responses(server: Server) -> None:
    before = metric(server, "slmflow_completion_tokens_total")
    completion = server.client().chat.completions.create(model="tiny_phi3", messages=QUESTION)
    assert completion.usage
    assert start_request(server, "/invocations").getresponse().status == 200
    generated = metric(server, "slmflow_completion_tokens_total") - before
    assert generated == 2 * completion.usage.completion_tokens
    _, headers, page = call(server, "GET", "/metrics")
    assert headers["Content-Type"].startswith("text/plain")
    for name in ("time_to_first_token", "queue", "answer"):
        assert re.search(rf"^slmflow_{name}_seconds_count [1-9]", page, re.MULTILINE)
    assert 'path="/v1/chat/completions",status="200"' in page
    assert metric(server, "slmflow_requests_waiting") == 0
