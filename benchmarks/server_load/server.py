"""The project's own server, in processes of its own: `python -m steps.serve`."""

import signal
import subprocess
import sys
import threading
import urllib.request
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TextIO, cast

from openai import APIError, OpenAI
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness import process_tree
from benchmarks.models import logged
from slmflow.errors import UserError

# To answer what is in flight, and to end.
_END_S = 60


@dataclass(frozen=True)
class Served:
    """A running server."""

    url: str
    pid: int
    client: OpenAI = field(init=False)

    def __post_init__(self) -> None:
        """Make OpenAI's own client; it gives up at the first error, so that each is seen."""
        client = OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)
        object.__setattr__(self, "client", client)

    @property
    def model(self) -> str:
        """The name of the one model."""
        [model] = self.client.models.list()
        return model.id

    def rss_bytes(self) -> int:
        """Return the memory that the server and the model's process hold now."""
        return process_tree.rss_bytes(self.pid)

    def figures(self) -> dict[str, float]:
        """Return what /metrics shows, without figures that have labels."""
        with urllib.request.urlopen(f"{self.url}/metrics") as response:  # noqa: S310 (own address)
            page = response.read().decode()
        return {
            sample.name: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if not sample.labels
        }


@contextmanager
def serving(model_uri: str) -> Iterator[Served]:
    """Serve a model of the current tracking database on a free port of loopback.

    Raises UserError where the server ends by itself, or what is asked of it has no answer.
    """
    line = [sys.executable, "-m", "steps.serve", f"serve.model_uri={model_uri}", "serve.port=0"]
    with subprocess.Popen(
        line, env=logged.environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        said: deque[str] = deque(maxlen=20)
        stderr = cast(TextIO, process.stderr)
        # A full pipe would stop the server.
        listening = threading.Thread(target=said.extend, args=(stderr,))
        try:
            served = Served(_address(stderr, said), process.pid)
            listening.start()
            with served.client:
                yield served
        except (APIError, OSError) as error:
            if process.poll() is None:
                raise UserError(f"the server gave no answer: {error}") from error
            raise _ended(said) from error
        finally:
            _end(process)
            if listening.ident is not None:
                listening.join()


def _address(stderr: TextIO, said: deque[str]) -> str:
    """Return the address that the server says it listens on."""
    for line in stderr:
        said.append(line)
        if " on http://" in line:
            return line.split(" on ")[1].strip()
    raise _ended(said)


def _ended(said: deque[str]) -> UserError:
    last = said[-1].strip().removeprefix("error: ") if said else "it said nothing"
    return UserError(f"the server ended: {last}")


def _end(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
