"""The model's process: `python -m slmflow.serving.worker MODEL_URI`, a child of `model_process`.

It passes messages of `slmflow.runtime.protocol` between its pipes and the loaded model, one JSON
object per line. Two kinds of request are added to the protocol's own:

    {"id": 3, "type": "invocations", "body": "...", "content_type": "application/json"}
    {"id": 3, "type": "cancel"}

`invocations` ends with `failed`, or with the response of MLflow's scoring server and the `finished`
events of all rows: {"id": 3, "type": "response", "body": "...", "status": 200, "media_type": "...",
"finished": [...]}.

The first line of standard output is {"type": "ready", "model_name": "..."}, or {"type": "rejected",
"message": "..."} for a model that cannot be served. The process ends with its standard input.
Everything that libraries print goes to standard error.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, TextIO

from mlflow.exceptions import MlflowException

from slmflow.errors import UserError
from slmflow.runtime.protocol import Event, Request
from slmflow.serving.loaded_model import LoadedModel, load
from slmflow.system.child_processes import claim_stdout

# Each waits for the model, whose scheduler shares it among them and the OpenAI requests.
_INVOCATION_THREADS = 8


class LineWriter:
    """Write JSON objects to a stream, one per line. Threads may share it."""

    def __init__(self, stream: TextIO) -> None:
        """Write to `stream`."""
        self._stream = stream
        self._lock = threading.Lock()

    def write(self, message: Event) -> None:
        """Write one object."""
        line = json.dumps(message)
        with self._lock:
            print(line, file=self._stream, flush=True)


class Worker:
    """Dispatch requests to a loaded model."""

    def __init__(self, model: LoadedModel, output: LineWriter) -> None:
        """Write the responses of `invocations` to `output`; the session delivers all others."""
        self._model, self._output = model, output
        self._threads = ThreadPoolExecutor(max_workers=_INVOCATION_THREADS)

    def handle(self, request: Request) -> None:
        """Start or cancel a request."""
        session = self._model.session
        if request["type"] == "cancel":
            session.cancel(request["id"])
        elif request["type"] == "invocations":
            tracked = session.track(request["id"])  # here, so that `cancel` may follow at once
            self._threads.submit(self._invoke, request, tracked)
        else:
            session.submit(request)

    def _invoke(
        self, request: dict[str, Any], tracked: AbstractContextManager[list[Event]]
    ) -> None:
        request_id = request["id"]
        self._output.write({"id": request_id, "type": "started"})
        try:
            with tracked as finished:
                response = self._model.invoke(request["body"], request["content_type"])
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            self._output.write({"id": request_id, "type": "failed", "message": message})
            return
        self._output.write({"id": request_id, "type": "response", "finished": finished, **response})


def _main() -> None:
    output = LineWriter(claim_stdout())
    try:
        model = load(sys.argv[1], output.write)
    except (UserError, MlflowException) as error:
        output.write({"type": "rejected", "message": str(error)})
        return
    output.write({"type": "ready", "model_name": model.session.model_name})
    worker = Worker(model, output)
    for line in sys.stdin:
        worker.handle(json.loads(line))
    os._exit(0)  # nobody reads what is still being generated


if __name__ == "__main__":
    _main()
