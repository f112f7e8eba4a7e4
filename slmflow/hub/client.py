"""The HTTP client of the hub: retries, certificates, and the token."""

import logging
import os
import ssl
import time
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies

import httpx
from huggingface_hub import constants, is_offline_mode, set_client_factory
from huggingface_hub.errors import OfflineModeIsEnabled
from huggingface_hub.utils._headers import build_hf_headers

from slmflow.errors import UserError

_RETRY_DELAYS_S = (0, 2, 4)
_MAX_RETRY_AFTER_S = 60
_TEMPORARY_STATUSES = (429, 500, 502, 503, 504)
# A refused connection is not retried: the hub is most likely unreachable, which the user should
# know at once.
_TEMPORARY_ERRORS = (
    *(httpx.ReadError, httpx.WriteError, httpx.CloseError, httpx.RemoteProtocolError),
    *(httpx.ReadTimeout, httpx.WriteTimeout, httpx.ProxyError),
)
_CERTIFICATE_VARIABLES = (
    *("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),  # httpx reads only the next two
    *("SSL_CERT_FILE", "SSL_CERT_DIR"),
)


class RetryingClient(httpx.Client):
    """Repeats a GET or HEAD that fails for a temporary reason, up to three times.

    It waits 0, 2 and 4 seconds, or as the response's Retry-After says, at most a minute.
    """

    def send(self, request: httpx.Request, **options: Any) -> httpx.Response:
        """Send a request, with retries until the response begins."""
        for delay_s in _RETRY_DELAYS_S if request.method in ("GET", "HEAD") else ():
            try:
                response = super().send(request, **options)
            except _TEMPORARY_ERRORS:
                time.sleep(delay_s)
                continue
            if response.status_code not in _TEMPORARY_STATUSES:
                return response
            response.close()
            time.sleep(retry_after_s(response.headers.get("Retry-After", ""), delay_s))
        return super().send(request, **options)


def retry_after_s(header: str, default: float) -> float:
    """Return the seconds to wait: a number or HTTP date, at most a minute; else the default."""
    if header.isdecimal():
        return min(float(header), _MAX_RETRY_AFTER_S)
    try:
        date = parsedate_tz(header)
        seconds = mktime_tz(date) - time.time() if date else default
    except (ValueError, OverflowError):
        return default
    return min(max(seconds, 0), _MAX_RETRY_AFTER_S)


def configure() -> None:
    """Make the hub's library use `RetryingClient`, with the proxies of the environment."""
    # The INFO lines of httpx quote URLs, with the password that HF_ENDPOINT may contain.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    set_client_factory(_new_client)


def request_headers() -> dict[str, str]:
    """Return user agent and token. Raises UserError for a token that no header can contain.

    Checked here, as the client would quote the token in its error.
    """
    headers = build_hf_headers()
    token = headers.get("authorization", "")
    if not (token.isascii() and token.isprintable()):
        raise UserError(
            "HF_TOKEN contains a character that is invalid in a token: copy the token again"
        )
    return headers


def _new_client() -> httpx.Client:
    certificates = _certificates()
    try:
        return RetryingClient(
            event_hooks={"request": [_refuse_offline]},
            follow_redirects=True,
            timeout=None,  # each request has its own
            verify=certificates,
            mounts=_mounts_without_proxy(),
        )
    # From None: the client's text may contain parts of a password.
    except (ValueError, httpx.InvalidURL):
        raise UserError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY is not the URL of a proxy: give "
            "http://HOST:PORT, with %-escapes for special characters in a password"
        ) from None
    except ImportError:
        raise UserError(
            "HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names a SOCKS proxy, which needs a package: "
            "run `pip install socksio`, or give an HTTP proxy"
        ) from None


def _mounts_without_proxy() -> dict[str, None]:
    """Return the hub's host if it is an address in a network of NO_PROXY, such as 10.0.0.0/8.

    httpx compares only names and single addresses.
    """
    with suppress(ValueError):
        address = ip_address(urlsplit(constants.ENDPOINT).hostname or "")
        host = f"[{address}]" if address.version == 6 else str(address)
        for each in getproxies().get("no", "").split(","):
            with suppress(ValueError):
                if address in ip_network(each.strip(), strict=False):
                    return {f"all://{host}": None}
    return {}


def _refuse_offline(request: httpx.Request) -> None:
    if is_offline_mode():
        raise OfflineModeIsEnabled(f"HF_HUB_OFFLINE is set: no request to {request.url.host}")


def _certificates() -> ssl.SSLContext | bool:
    """Return the trusted certificates that the environment names, else True: those of certifi."""
    variable = next((name for name in _CERTIFICATE_VARIABLES if os.environ.get(name)), None)
    if variable is None:
        return True
    path = Path(os.environ[variable])
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise UserError(
            f"{variable}={str(path)!r} has no readable certificates ({error.strerror or error}): "
            "set it to a PEM file with the certificates to trust, or remove it"
        ) from error
