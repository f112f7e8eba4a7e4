"""The server of a logged model: `serve.*`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from slmflow.config.schema.fields import Kind, config_key

# As browsers write it: in lower case, and without a path.
_ORIGIN = re.compile(r"\*|[a-z][a-z0-9+.-]*://[a-z0-9._:\[\]-]+")


class Tracing(Enum):
    """What the server traces of a request: nothing, tokens and times, or its content too."""

    off = "off"
    usage = "usage"
    content = "content"


@dataclass
class Serve:
    """The server of a logged model."""

    model_uri: str = config_key(
        Kind.model_uri, "URI of a logged model; `registered` is the target's version"
    )
    host: str = config_key(Kind.text, "address to listen on", "127.0.0.1")
    insecure: bool = config_key(
        Kind.value, "whether an address that others can reach may be served without a key", False
    )
    port: int = config_key(Kind.value, "port to listen on; 0 is any free port", 8000)
    most_waiting: int = config_key(
        Kind.value, "length of the queue; further requests are rejected", 64
    )
    most_body_kb: int = config_key(Kind.value, "largest request body, in kB", 1000)
    default_max_tokens: int = config_key(
        Kind.value,
        "most tokens of an answer where neither the request nor generation.max_new_tokens says",
        1024,
    )
    cache_mb: int = config_key(
        Kind.value,
        "memory for the KV caches of recent conversations and of requests in progress, in MB; 0 "
        "keeps none for later requests",
        2048,
    )
    origins: list[str] = config_key(
        Kind.list,
        "origins of web pages that may use the server, [http://localhost:3000]; [*] allows all",
        list,
    )
    tracing: Tracing = config_key(
        Kind.value,
        "what MLflow traces record: nothing, usage (tokens, times) or content",
        Tracing.off,
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if not self.model_uri:
            yield "serve.model_uri is empty: give models:/NAME@ALIAS, or registered"
        if not 0 <= self.port <= 65535:
            yield f"serve.port={self.port}: must be 0 (any free port) to 65535"
        for key, value in (
            ("most_waiting", self.most_waiting),
            ("most_body_kb", self.most_body_kb),
            ("default_max_tokens", self.default_max_tokens),
        ):
            if value < 1:
                yield f"serve.{key}={value}: must be at least 1"
        if self.cache_mb < 0:
            yield f"serve.cache_mb={self.cache_mb}: must be at least 0 (keep nothing)"
        for origin in self.origins:
            if not _ORIGIN.fullmatch(origin):
                yield (
                    f"serve.origins: {origin!r} is not an origin: give scheme, host and port in "
                    "lower case without a path, such as http://localhost:3000, or * for all"
                )
