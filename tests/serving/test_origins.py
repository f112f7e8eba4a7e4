"""What a web page of another origin can do: nothing, unless `serve.origins` has its origin."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from slmflow.pipeline.results import GenaiModel
from tests.serving.calls import QUESTION, call, metric, status_and_message
from tests.serving.conftest import Server, serving

ALLOWED, FOREIGN = "http://localhost:3000", "https://example.com"
CHAT = "/v1/chat/completions"
POSTS = (CHAT, "/v1/completions", "/invocations")
BODY: dict[str, Any] = {"messages": QUESTION}

# All that a browser sends to another origin without a preflight; "" is a body without a type.
SIMPLE_TYPES = ("", "text/plain", "text/plain;application/json", "multipart/form-data; boundary=a")
SIMPLE_TYPES += ("application/x-www-form-urlencoded",)


@pytest.fixture(scope="module")
def open_server(chat: GenaiModel, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for the pages of two origins."""
    settings = (f"serve.model_uri={chat.model_uri}", f"serve.origins=[{ALLOWED},https://a.b]")
    with serving(tmp_path_factory.mktemp("serve"), *settings) as running:
        yield running


def preflight(server: Server, path: str, origin: str, method: str = "POST") -> Any:
    """Send what a browser sends before a request with a key and JSON."""
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os",
    }
    return call(server, "OPTIONS", path, Authorization="", **headers)


@pytest.mark.parametrize("path", POSTS)
def test_preflight_of_another_origin_is_rejected(server: Server, path: str) -> None:
    status, headers, body = preflight(server, path, FOREIGN)
    assert status == 403
    assert "Access-Control-Allow-Origin" not in headers
    error = json.loads(body)["error"]
    assert error["code"] == "origin_not_allowed"
    assert "serve.origins=[https://example.com]" in error["message"]


@pytest.mark.parametrize("path", POSTS)
def test_preflight_of_allowed_origin_needs_no_key(open_server: Server, path: str) -> None:
    status, headers, _ = preflight(open_server, path, ALLOWED)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == ALLOWED
    assert "POST" in headers["Access-Control-Allow-Methods"]
    allowed = headers["Access-Control-Allow-Headers"]
    assert allowed == "authorization,content-type,x-stainless-os"
    assert preflight(open_server, path, FOREIGN)[0] == 403


def test_allowed_origin_gets_answers_and_errors(open_server: Server) -> None:
    for options, expected in (
        ({}, 200),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Content-Type": "text/plain"}, 415),
    ):
        status, headers, _ = call(open_server, "POST", CHAT, BODY, Origin=ALLOWED, **options)
        assert status == expected
        assert headers["Access-Control-Allow-Origin"] == ALLOWED
        assert "Origin" in headers["Vary"]
    assert "Access-Control-Allow-Origin" not in call(open_server, "GET", "/v1/models")[1]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": FOREIGN},
        {"Origin": "null"},
        {"Origin": FOREIGN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://localhost:1", "Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": FOREIGN, "Host": "example.com"},
        {"Origin": "http://example.com:8000", "Host": "example.com:8000"},
    ],
    ids=str,
)
def test_page_of_another_origin_starts_nothing(
    keyless_server: Server, headers: dict[str, str]
) -> None:
    """The last two have the host of the server as their own: DNS rebinding."""
    before = metric(keyless_server, "slmflow_completion_tokens_total")
    for path in POSTS:
        for content_type in ("application/json", *SIMPLE_TYPES):
            sent = {"Content-Type": content_type, "Authorization": "", **headers}
            status, answered, _ = call(keyless_server, "POST", path, BODY, **sent)
            assert status == 403
            assert "Access-Control-Allow-Origin" not in answered
    assert metric(keyless_server, "slmflow_completion_tokens_total") == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://localhost:8000", "Host": "localhost:8000"},
        {"Origin": "http://slm.localhost:8000", "Host": "slm.localhost:8000"},
        {"Origin": "http://192.168.1.5:8000", "Host": "192.168.1.5:8000"},
        {"Origin": "http://[::1]:8000", "Host": "[::1]:8000"},
        {"Origin": "http://gpubox:8000", "Host": "gpubox:8000"},
        {"Origin": "https://models.example.com", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=str,
)
def test_own_page_is_answered(keyless_server: Server, headers: dict[str, str]) -> None:
    assert call(keyless_server, "POST", CHAT, BODY, Authorization="", **headers)[0] == 200


def test_own_page_behind_a_proxy_is_answered_with_the_key(server: Server) -> None:
    headers = {"Origin": "http://models.example.com", "Host": "models.example.com"}
    assert call(server, "POST", CHAT, BODY, **headers)[0] == 200


@pytest.mark.parametrize("content_type", SIMPLE_TYPES)
@pytest.mark.parametrize("path", POSTS)
def test_body_that_needs_no_preflight_is_rejected(
    server: Server, path: str, content_type: str
) -> None:
    response = call(server, "POST", path, BODY, **{"Content-Type": content_type})
    status, message = status_and_message(response)
    assert status == 415
    assert "Content-Type: application/json" in message


def test_json_types_with_parameters_are_accepted(server: Server) -> None:
    for content_type in ("application/json; charset=utf-8", "Application/JSON"):
        assert call(server, "POST", CHAT, BODY, **{"Content-Type": content_type})[0] == 200


def test_all_origins_may_be_allowed(
    chat: GenaiModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    settings = (f"serve.model_uri={chat.model_uri}", "serve.origins=[*]")
    with serving(tmp_path_factory.mktemp("serve"), *settings) as server:
        for origin in (FOREIGN, "null"):
            assert preflight(server, CHAT, origin)[1]["Access-Control-Allow-Origin"] == "*"
            status, headers, _ = call(server, "POST", CHAT, BODY, Origin=origin)
            assert (status, headers["Access-Control-Allow-Origin"]) == (200, "*")
        assert call(server, "POST", CHAT, BODY, Origin=FOREIGN, Authorization="")[0] == 401
