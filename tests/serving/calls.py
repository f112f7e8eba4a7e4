"""Plain HTTP requests to a server."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.serving.conftest import KEY, Server

Body = bytes | dict[str, Any] | None

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

# Forces a completion of hundreds of tokens; free text ends after ten.
NUMBERS: Any = {
    "type": "json_schema",
    "json_schema": {
        "name": "numbers",
        "schema": {"type": "array", "items": {"type": "integer"}, "minItems": 150},
    },
}


def send(
    server: Server, method: str, path: str, body: Body, **headers: str
) -> http.client.HTTPConnection:
    """Send a request without waiting for the response.

    body: a dict is sent as JSON, and bytes as they are. headers: instead of the usual ones; an
    empty one is not sent.
    """
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    usual = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    sent = {name: value for name, value in {**usual, **headers}.items() if value}
    connection.request(method, path, body, sent)
    return connection


def call(server: Server, method: str, path: str, body: Body = None, **headers: str) -> Any:
    """Send a request; return status, headers and body."""
    response = send(server, method, path, body, **headers).getresponse()
    return response.status, response.headers, response.read().decode()


def status_and_message(response: Any) -> tuple[int, str]:
    status, _, body = response
    error = json.loads(body)["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return status, error["message"]


def metric(server: Server, name: str) -> float:
    _, _, page = call(server, "GET", "/metrics")
    [line] = [line for line in page.splitlines() if line.startswith(f"{name} ")]
    return float(line.split()[1])


def start_request(
    server: Server, path: str = "/v1/chat/completions", **options: Any
) -> http.client.HTTPConnection:
    """Send the question without waiting for the response."""
    return send(server, "POST", path, {"messages": QUESTION, **options})
