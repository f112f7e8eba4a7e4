"""Plain HTTP requests to a server."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from tests.serving.conftest import KEY, Server

QUESTION = [{"role": "user", "content": "What is the capital of France?"}]

# Forces a completion of hundreds of tokens; free text ends after ten.
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
    response = connection.getresponse()
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
    connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)
    body = json.dumps({"messages": QUESTION, **options})
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    connection.request("POST", path, body, headers)
    return connection
