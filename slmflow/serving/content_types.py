"""Which types of body the endpoints take.

None of them is a type that a browser sends to another origin without asking first: no type at all,
`text/plain`, and the two types of forms.
"""

import re

from fastapi import Request

from slmflow.serving.errors import RequestError

_JSON = re.compile(r"application/([\w.-]+\+)?json")
_JSON_OR_CSV = re.compile(rf"{_JSON.pattern}|text/csv")


async def require_json(request: Request) -> None:
    """Raise RequestError for a request whose body is not declared as JSON."""
    _check(request, _JSON, "application/json")


async def require_json_or_csv(request: Request) -> None:
    """Raise RequestError for a request whose body is declared as neither JSON nor CSV."""
    _check(request, _JSON_OR_CSV, "application/json or text/csv")


def _check(request: Request, allowed: re.Pattern[str], names: str) -> None:
    declared = request.headers.get("content-type", "")
    media_type = declared.partition(";")[0].strip().lower()
    if not allowed.fullmatch(media_type):
        sent = f"the content type is {declared!r:.100}" if declared else "there is no content type"
        raise RequestError(
            f"{sent}: send the body as Content-Type: {names}",
            status=415,
            code="unsupported_content_type",
        )
