"""How a logged model is served: `serve.*`."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from omegaconf import MISSING


class Tracing(Enum):
    """What the server notes of each request in MLflow: usage is tokens and times, content all."""

    off = "off"
    usage = "usage"
    content = "content"


@dataclass
class Serve:
    """How a logged model is served.

    model_uri: a model's address, `registered` for the version with the alias of `registry`; host:
    loopback unless you say otherwise; port: 0 is any that is free; most_waiting: requests in
    the queue before further ones are turned away; most_body_kb: in thousands of bytes.
    """

    model_uri: str = MISSING
    host: str = "127.0.0.1"
    port: int = 8000
    most_waiting: int = 64
    most_body_kb: int = 1000
    tracing: Tracing = Tracing.off

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if not self.model_uri:
            yield "serve.model_uri is empty: give models:/NAME@ALIAS, or registered"
        if not 0 <= self.port <= 65535:
            yield f"serve.port={self.port}: must be 0 (any that is free) to 65535"
        for key, value in (
            ("most_waiting", self.most_waiting),
            ("most_body_kb", self.most_body_kb),
        ):
            if value < 1:
                yield f"serve.{key}={value}: must be at least 1"
