"""Retries, on the fake hub; the delays are recorded instead of slept."""

import time
from email.utils import formatdate

import httpx
import pytest

from slmflow.hub import client
from slmflow.hub.client import RetryingClient, retry_after_s
from tests.fixtures.hub_server import FakeHub


@pytest.fixture
def delays(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    recorded: list[float] = []
    monkeypatch.setattr(client.time, "sleep", recorded.append)
    return recorded


@pytest.mark.parametrize(
    ("status", "expected"), [(500, [0, 2, 4]), (0, [0, 2, 4]), (503, [1, 1, 1]), (404, [])]
)
def test_delays_between_retries(
    hub: FakeHub, delays: list[float], status: int, expected: list[float]
) -> None:
    """The hub sends `Retry-After: 1` with a 503; 0 resets the connection."""
    hub.next_statuses = [status] * 3
    assert RetryingClient().get(hub.url).status_code == 404  # of the fake hub's front page
    assert delays == expected


def test_refused_connection_is_not_retried(delays: list[float]) -> None:
    with pytest.raises(httpx.ConnectError):
        RetryingClient().get("http://127.0.0.1:9")
    assert delays == []


def test_post_is_not_retried(hub: FakeHub, delays: list[float]) -> None:
    hub.next_statuses = [503]
    assert RetryingClient().post(hub.url).status_code == 503
    assert delays == []


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("7", 7),
        ("0", 0),
        ("61", 60),
        ("9" * 400, 60),
        ("", 4),
        ("soon", 4),
        ("-1", 4),
        ("Wed, 21 Oct 99999 07:28:00 GMT", 4),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Wed, 21 Oct 2099 07:28:00 GMT", 60),
    ],
)
def test_retry_after_is_at_most_a_minute(header: str, expected: float) -> None:
    assert retry_after_s(header, default=4) == expected


def test_retry_after_can_be_a_date() -> None:
    header = formatdate(time.time() + 30, usegmt=True)
    assert retry_after_s(header, default=4) == pytest.approx(30, abs=5)
