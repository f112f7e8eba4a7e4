"""Remove tokens and passwords from messages, tags and tracebacks.

slmflow itself puts none there, but messages of libraries quote URLs and headers.
"""

import os
import re

HIDDEN = "[hidden]"

# Environment variables with a secret, by the end of their names.
_SECRET_NAME = re.compile(
    r"(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|API_?KEY|ACCESS_KEY|CONNECTION_STRING)$",
    re.IGNORECASE,
)

# A shorter value is no secret, and may be part of any word.
_MIN_LENGTH = 8

_URL_CREDENTIALS = re.compile(r"(?<=://)[^/\s@\"']+(?=@)")


def redact(text: str) -> str:
    """Return a text without the secrets of the environment and the credentials in URLs."""
    variables = os.environ.items()
    secrets = [v for name, v in variables if _SECRET_NAME.search(name) and len(v) >= _MIN_LENGTH]
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL_CREDENTIALS.sub(HIDDEN, text)
