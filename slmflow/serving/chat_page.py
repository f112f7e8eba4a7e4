"""The page at `/` for trying the model in a browser: one file, without external resources."""

import base64
import hashlib
import re
from pathlib import Path

from fastapi.responses import HTMLResponse

_FILE = Path(__file__).with_name("chat_page.html")


def create() -> HTMLResponse:
    """Return the page. It contains no data; what it loads from the API needs the key."""
    page = _FILE.read_text("utf-8")
    return HTMLResponse(
        page,
        headers={
            "Content-Security-Policy": _policy(page),
            "Cache-Control": "no-cache",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        },
    )


def _policy(page: str) -> str:
    """Return the policy that allows the page its own script and style, and requests to the API."""
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {_hash(page, 'script')}",
            f"style-src {_hash(page, 'style')}",
            "connect-src 'self'",
            "img-src data:",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(page: str, tag: str) -> str:
    [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
