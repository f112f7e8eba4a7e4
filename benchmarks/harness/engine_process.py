"""Parent side of an engine's child process."""

import json
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, TextIO, cast

from benchmarks.harness.engine_worker import TimedReply
from benchmarks.harness.installation import CURRENT, Installation
from slmflow.errors import UserError


@dataclass(frozen=True)
class EngineModel:
    """A model for an engine.

    loader: key of `LOADERS`; path: the model that it loads; installation: where the engine runs.
    """

    loader: str
    path: Path
    installation: Installation = CURRENT


class EngineProcess:
    """An engine in a child process, which ends with the context."""

    def __init__(self, engine: str, model: EngineModel, context: int) -> None:
        """Start the process; context: longest prompt plus new tokens."""
        self.engine = engine
        self._log = tempfile.NamedTemporaryFile("w")  # noqa: SIM115 (see __exit__)
        self._process = subprocess.Popen(
            model.installation.command("harness.engine_worker", model.loader, model.path, context),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=model.installation.environment(),
            text=True,
        )

    def __enter__(self) -> Self:
        """Wait until the model is loaded."""
        self.description: str = self._receive()["description"]
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._log.close()

    def prefill(self, prompt: Sequence[int], new_tokens: int) -> TimedReply:
        """Run a prompt and choose the first of `new_tokens` tokens."""
        return self._request({"prefill": prompt, "new_tokens": new_tokens})

    def decode(self, tokens: int) -> TimedReply:
        """Decode that many tokens."""
        return self._request({"decode": tokens})

    def _request(self, request: dict[str, Any]) -> TimedReply:
        with suppress(BrokenPipeError):  # _receive reports that the process has ended
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return TimedReply(**self._receive())

    def _receive(self) -> dict[str, Any]:
        if line := cast(TextIO, self._process.stdout).readline():
            message: dict[str, Any] = json.loads(line)
            return message
        status = self._process.wait()
        log = Path(self._log.name).read_text(errors="replace").strip().splitlines()
        raise UserError(
            f"{self.engine} could not be measured: its process ended with status {status}: "
            f"{log[-1] if log else 'no output'}"
        )
