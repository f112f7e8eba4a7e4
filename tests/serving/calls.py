"""Requests to a server by plain HTTP, and what comes back."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.fixtures.server.conftest import KEY, Server

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

# An answer of hundreds of tokens, where a free one ends after ten.
NUMBERS: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "numbers",
        "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 150},
    },
}


def call(server: Server, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
    """Send a request; return status, headers and body."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    connection.request(method, path, body, {"Authorization": f"Bearer {KEY}", **headers})
    answer = connection.getresponse()
    return answer.status, answer.headers, answer.read().decode()


def fault(answer: Any) -> tuple[int, str]:
    status, _, body = answer
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return status, error["message"]


def figure(server: Server, name: str) -> float:
    _, _, page = call(server, "GET", "/metrics")
    [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def begin(
    server: Server, path: str = "/v1/chat/completions", **asked: Any
) -> http.client.HTTPConnection:
    """Ask for an answer to the question, and do not wait for it."""
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    body = json.dumps({"messages": QUESTION, **asked})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", path, body, headers)
    return connection
