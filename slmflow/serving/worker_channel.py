"""What the model's process says to the server: a JSON object a line."""

import json
import threading
from typing import Any, TextIO

from mlflow.exceptions import MlflowException


class Channel:
    """The lines to the parent; threads may share it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._lock = threading.Lock()

    def send(self, **fields: Any) -> None:
        """Send one JSON object."""
        line = json.dumps(fields)
        with self._lock:
            print(line, file=self._stream, flush=True)

    def fail(self, number: int, error: Exception) -> None:
        """Say why a request has no answer: it asks for what cannot be, or the model failed."""
        if isinstance(error, MlflowException) and error.get_http_status_code() == 400:
            self.send(id=number, event="refused", message=error.message)
        else:
            self.send(id=number, event="failed", message=f"{type(error).__name__}: {error}")
