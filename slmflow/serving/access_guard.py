"""What every request passes: the API key is asked for, and the answer's status is counted."""

import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slmflow.serving.errors import Refusal
from slmflow.serving.openai_responses import error
from slmflow.serving.prometheus import Metrics

# What a load balancer asks without a key.
_OPEN = ("/health", "/ping")

_WRONG_KEY = Refusal(
    "the API key is wrong or missing: send it as `Authorization: Bearer KEY`",
    status=401,
    code="invalid_api_key",
)


class Guard:
    """An app before another one, which only those who have the key reach.

    It is no `BaseHTTPMiddleware`: that would keep from the app when a client goes away.
    """

    def __init__(self, app: ASGIApp, api_key: str | None, metrics: Metrics) -> None:
        """Without a key, let everyone pass."""
        self._app, self._api_key, self._metrics = app, api_key, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                route = scope.get("route")  # any other path would be a series of its own
                self._metrics.request(getattr(route, "path", "other"), message["status"])
            await send(message)

        passed = scope["path"] in _OPEN or self._has_key(scope)
        await (self._app if passed else error(_WRONG_KEY))(scope, receive, noting)

    def _has_key(self, scope: Scope) -> bool:
        if self._api_key is None:
            return True
        scheme, _, given = Headers(scope=scope).get("authorization", "").partition(" ")
        # The comparison takes as long for any wrong key.
        same = hmac.compare_digest(given.strip().encode(), self._api_key.encode())
        return same and scheme.lower() == "bearer"
