"""Middleware around the app: check the API key, and count responses by status."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slmflow.serving.errors import RequestError
from slmflow.serving.openai_responses import error_response
from slmflow.serving.prometheus import Metrics

# Load balancers request the health checks without a key. The chat page asks for it.
_PUBLIC_PATHS = ("/", "/health", "/ping")

_INVALID_KEY = RequestError(
    "the API key is wrong or missing: send it as `Authorization: Bearer KEY`",
    status=401,
    code="invalid_api_key",
)

# Neither is a `BaseHTTPMiddleware`, because that hides from the app that a client disconnects.


class CountingMiddleware:
    """Count all responses."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Wrap an app."""
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""

        async def counting_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")  # unknown paths would each start a time series
                self._metrics.count_response(getattr(route, "path", "other"), message["status"])
            await send(message)

        await self._app(scope, receive, counting_send)


class KeyMiddleware:
    """Pass on requests with the API key."""

    def __init__(self, app: ASGIApp, api_key: str) -> None:
        """Wrap an app."""
        self._app, self._api_key = app, api_key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        is_allowed = scope["path"] in _PUBLIC_PATHS or self._has_key(scope)
        app = self._app if is_allowed else error_response(_INVALID_KEY)
        await app(scope, receive, send)

    def _has_key(self, scope: Scope) -> bool:
        scheme, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        # Takes the same time for any wrong key.
        is_same = hmac.compare_digest(key.strip().encode(), self._api_key.encode())
        return is_same and scheme.lower() == "bearer"
