"""Where the server may listen without a key."""

import socket
from contextlib import closing

import pytest

from slmflow.config import compose
from slmflow.errors import UserError
from slmflow.serving import server


def _require_key(host: str, *overrides: str, key: str | None = None) -> None:
    settings = compose.load([f"serve.host={host}", "serve.port=0", *overrides]).serve
    with closing(server.listen(settings.host, settings.port)) as bound:
        server.require_key(bound, settings, key)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1"])
def test_loopback_needs_no_key(host: str) -> None:
    _require_key(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "::ffff:0.0.0.0"])  # noqa: S104
def test_other_address_needs_a_key(host: str) -> None:
    with pytest.raises(UserError, match=f"serve.host={host}: everybody .*SLMFLOW_API_KEY"):
        _require_key(host)
    _require_key(host, key="secret")
    _require_key(host, "serve.insecure=true")


def test_name_of_this_machine_is_judged_by_its_address() -> None:
    name = socket.gethostname()
    if socket.gethostbyname(name).startswith("127."):
        pytest.skip("this machine's name is a loopback address")
    with pytest.raises(UserError, match="without a key"):
        _require_key(name)
