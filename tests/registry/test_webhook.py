"""Webhooks of the registry, sent to a real server on loopback."""

import json

import pytest
from mlflow.webhooks import delivery

from slmflow.config.compose import load
from slmflow.errors import BadArguments
from slmflow.registry import webhook
from slmflow.registry.webhook import NotDelivered
from tests.fixtures.server import free_port
from tests.registry.receivers import receiving

BODY = json.dumps({"text": "Größe ✓"})


def test_message_arrives_as_sent() -> None:
    with receiving() as receiver:
        webhook.send(receiver.url, "id-1", BODY)

    assert receiver.bodies == [BODY.encode()]
    [headers] = receiver.headers
    assert headers["Content-Type"] == "application/json"
    assert headers["X-MLflow-Delivery-Id"] == "id-1"
    assert "X-MLflow-Signature" not in headers


def test_signature_is_that_of_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(webhook.SECRET, "a secret key")
    with receiving() as receiver:
        webhook.send(receiver.url, "id-1", BODY)

    [headers] = receiver.headers
    expected = delivery._generate_hmac_signature(
        "a secret key", "id-1", headers["X-MLflow-Timestamp"], receiver.bodies[0].decode()
    )
    assert headers["X-MLflow-Signature"] == expected


def test_busy_receiver_is_tried_again() -> None:
    with receiving() as receiver:
        receiver.statuses = [503, 200]
        webhook.send(receiver.url, "id-1", BODY)

    assert receiver.bodies == [BODY.encode()] * 2
    assert {headers["X-MLflow-Delivery-Id"] for headers in receiver.headers} == {"id-1"}


@pytest.mark.parametrize(("status", "told"), [(404, "status 404"), (302, "a redirect")])
def test_refusal_names_the_status_and_no_path(status: int, told: str) -> None:
    with receiving() as receiver:
        receiver.statuses = [status]
        with pytest.raises(NotDelivered, match=told) as failure:
            webhook.send(receiver.url, "id-1", BODY)

    assert len(receiver.bodies) == 1
    assert "http://127.0.0.1" in str(failure.value)
    assert "T0P-SECRET-PATH" not in str(failure.value)


def test_absent_receiver_is_named_without_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_RETRIES", webhook._RETRIES.new(backoff_factor=0))
    with pytest.raises(NotDelivered, match=r"127\.0\.0\.1 cannot be reached") as failure:
        webhook.send(f"http://user:hunter2@127.0.0.1:{free_port()}/T0P", "id-1", BODY)
    assert not {"hunter2", "T0P"} & set(str(failure.value).replace("/", " ").split())


def test_url_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver:
        monkeypatch.setenv("MY_HOOK", receiver.url)
        webhook.send("env:MY_HOOK", "id-1", BODY)
    assert len(receiver.bodies) == 1

    monkeypatch.setenv("MY_HOOK", "file:///etc/passwd")
    with pytest.raises(BadArguments, match="MY_HOOK holds no http or https URL"):
        webhook.resolve("env:MY_HOOK")
    with pytest.raises(BadArguments, match="NOT_SET is not set"):
        webhook.resolve("env:NOT_SET")


@pytest.mark.parametrize(
    "url",
    ["ftp://host/x", "https:///x", "host/x", "https://host:99999/x", "https://a b/", "env:", ""],
)
def test_other_addresses_are_rejected(url: str) -> None:
    with pytest.raises(BadArguments, match=r"registry\.webhook is not an http or https URL"):
        load([f"registry.webhook='{url}'"])


def test_password_in_the_url_is_rejected_and_not_shown() -> None:
    with pytest.raises(BadArguments, match="env:NAME") as rejected:
        load(["registry.webhook='https://user:hunter2@host/x'"])
    assert "hunter2" not in str(rejected.value)
