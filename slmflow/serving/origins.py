"""Which web pages may use the server: its own, and those of the origins in `serve.origins`.

A browser sends some requests to any server for any page, and hides only the responses. Each request
that may start something is therefore checked by the origin that the browser says it comes from.
"""

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from slmflow.serving.errors import RequestError
from slmflow.serving.openai_responses import error_response

ANY = "*"

# These start nothing, and a page of another origin cannot read their responses.
_SAFE_METHODS = ("GET", "HEAD")


class OriginMiddleware:
    """Pass on requests of allowed pages, and of clients that are no browsers."""

    def __init__(self, app: ASGIApp, allowed: Sequence[str], has_key: bool) -> None:
        """Wrap an app.

        allowed: origins such as `http://localhost:3000`; `*` allows all. has_key: whether requests
        need a key. Without one, the name of a host does not show that a page is the server's own.
        """
        self._app = _with_cors(app, allowed) if allowed else app
        self._allowed, self._has_key = frozenset(allowed), has_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        app = self._app
        if scope["type"] == "http" and scope["method"] not in _SAFE_METHODS:
            headers = Headers(scope=scope)
            if not self._is_allowed(headers):
                app = error_response(_foreign_page(headers.get("origin", "null")))
        await app(scope, receive, send)

    def _is_allowed(self, headers: Headers) -> bool:
        if not self._allowed.isdisjoint((ANY, headers.get("origin", ""))):
            return True
        if site := headers.get("sec-fetch-site"):  # sent from HTTPS and from localhost only
            return site in ("same-origin", "none")
        return "origin" not in headers or self._is_own(headers)

    def _is_own(self, headers: Headers) -> bool:
        """Return whether the origin of a page is the address that the request was sent to."""
        host = headers.get("host", "")
        is_same = urlsplit(headers["origin"]).netloc == host
        return is_same and (self._has_key or not _may_be_rebound(host))


def _with_cors(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """Let browsers give the responses of an app to pages of some origins."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=(ANY,),
        allow_private_network=True,
        expose_headers=("Retry-After",),
    )


def _may_be_rebound(host: str) -> bool:
    """Return whether the owner of a domain could have pointed this name at the server.

    DNS rebinding: a page of that domain then has the same origin as the server.
    """
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return "." in name and not name.endswith(".localhost")
    return False


def _foreign_page(origin: str) -> RequestError:
    # Browsers send `null` for local files and for frames without an origin.
    entry = ANY if origin == "null" else origin
    return RequestError(
        f"pages of the origin {origin!r:.200} may not use this server: to allow them, start it "
        f"with serve.origins=[{entry:.200}]",
        status=403,
        code="origin_not_allowed",
    )
