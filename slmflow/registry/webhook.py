"""POST a message to a webhook, signed as MLflow signs those of its own webhooks."""

import base64
import hashlib
import hmac
import os
import time

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from slmflow.config.schema.registry import http_address, webhook_variable
from slmflow.errors import BadArguments

SECRET = "SLMFLOW_WEBHOOK_SECRET"  # noqa: S105  # the name of the variable
"""Environment variable with the key of the signature."""

_TIMEOUT_S = (5, 10)  # to connect, to answer

# Waits half a second, then one and two.
_RETRIES = Retry(
    total=3,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods={"POST"},
    respect_retry_after_header=False,
    raise_on_status=False,
    redirect=0,
    raise_on_redirect=False,
)


class NotDelivered(Exception):
    """A message that the receiver did not accept; the text names only its host."""


def resolve(setting: str) -> str:
    """Return the URL of `registry.webhook`, which may name an environment variable.

    Raises BadArguments if the variable holds no http or https URL.
    """
    if (variable := webhook_variable(setting)) is None:
        return setting
    url = os.environ.get(variable, "")
    if http_address(url) is None:
        raise BadArguments(
            f"registry.webhook={setting}: the environment variable {variable} "
            + ("is not set" if not url else "holds no http or https URL")
        )
    return url


def send(setting: str, delivery_id: str, body: str) -> None:
    """POST a JSON text to the URL of `registry.webhook`.

    The signature is an HMAC-SHA256 with the key in SLMFLOW_WEBHOOK_SECRET, if that is set. Raises
    NotDelivered unless the receiver answers with a status of 200 to 299.
    """
    url = resolve(setting)
    place = _place(url)
    headers = {"Content-Type": "application/json", **_signature(delivery_id, body)}
    with requests.Session() as session:
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=_RETRIES))
        try:
            with session.post(
                url,
                data=body.encode(),
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
                stream=True,  # the answer's body is not read
            ) as response:
                status = response.status_code
        except (requests.RequestException, ValueError) as error:
            reason = type(error).__name__  # the text of the error has the URL, which may be secret
            raise NotDelivered(f"{place} cannot be reached ({reason})") from None
    if not 200 <= status < 300:
        hint = ", a redirect, which is not followed" if 300 <= status < 400 else ""
        raise NotDelivered(f"{place} answered with status {status}{hint}")


def _signature(delivery_id: str, body: str) -> dict[str, str]:
    """Return the headers of MLflow's webhooks; a receiver written for these can verify them."""
    timestamp = str(int(time.time()))
    headers = {"X-MLflow-Delivery-Id": delivery_id, "X-MLflow-Timestamp": timestamp}
    if secret := os.environ.get(SECRET):
        content = f"{delivery_id}.{timestamp}.{body}".encode()
        digest = hmac.new(secret.encode(), content, hashlib.sha256).digest()
        headers["X-MLflow-Signature"] = f"v1,{base64.b64encode(digest).decode()}"
    return headers


def _place(url: str) -> str:
    """Return the address without its path, query and credentials, any of which may be secret."""
    address = http_address(url)
    return f"{address.scheme}://{address.hostname}" if address else "the address"
