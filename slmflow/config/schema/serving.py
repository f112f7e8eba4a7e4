"""The server of a logged model: `serve.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from slmflow.config.schema.fields import Kind, config_key


class Tracing(Enum):
    """What the server traces of a request: nothing, tokens and times, or its content too."""

    off = "off"
    usage = "usage"
    content = "content"


@dataclass
class Serve:
    """The server of a logged model."""

    model_uri: str = config_key(
        Kind.model_uri, "URI of a logged model; `registered` is the version with `registry.alias`"
    )
    host: str = config_key(Kind.text, "address to listen on", "127.0.0.1")
    port: int = config_key(Kind.value, "port to listen on; 0 is any free port", 8000)
    most_waiting: int = config_key(
        Kind.value, "length of the queue; further requests are rejected", 64
    )
    most_body_kb: int = config_key(Kind.value, "largest request body, in kB", 1000)
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
        ):
            if value < 1:
                yield f"serve.{key}={value}: must be at least 1"
