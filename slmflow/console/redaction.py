"""Keep tokens and passwords out of what is told: on the screen, in tags, in tracebacks.

Nothing of slmflow puts one into a message. Libraries' messages quote addresses and headers.
"""

import os
import re

HIDDEN = "[hidden]"

# Variables that hold what only its owner may read, by the ends of their names.
_NAME = re.compile(
    r"(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|API_?KEY|ACCESS_KEY|CONNECTION_STRING)$",
    re.IGNORECASE,
)

# A shorter value is no secret, and may be part of any word.
_SHORTEST = 8

_IN_ADDRESS = re.compile(r"(?<=://)[^/\s@\"']+(?=@)")


def redacted(text: str) -> str:
    """Return a text without the secrets of the environment, and what logs in to addresses."""
    held = [v for name, v in os.environ.items() if _NAME.search(name) and len(v) >= _SHORTEST]
    for secret in sorted(held, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _IN_ADDRESS.sub(HIDDEN, text)
