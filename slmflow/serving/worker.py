"""The model's process: `python -m slmflow.serving.worker MODEL_URI CACHE_MB`, of `model_process`.

It passes messages of `slmflow.runtime.protocol` between its pipes and the loaded model, one JSON
object per line. Three kinds of request are added to the protocol's own:

    {"id": 3, "type": "invocations", "body": "...", "content_type": "application/json"}
    {"id": 3, "type": "cancel"}
    {"type": "together", "requests": [{"id": 4, "type": "chat", ...}, {"id": 5, ...}]}

`invocations` ends with `failed`, or with the response of MLflow's scoring server and the `finished`
events of all rows: {"id": 3, "type": "response", "body": "...", "status": 200, "media_type": "...",
"finished": [...]}.

The first line of standard output is {"type": "rejected", "message": "..."} for a model that cannot
be served, or else

    {"type": "ready", "model_name": "...", "takes_messages": true, "protocol_version": 2,
     "template_variables": ["enable_thinking"], "adapters": ["french"]}

whose `template_variables` are null for a model that does not tell. The process ends when its
standard input closes. Everything that libraries print goes to standard error.
"""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

from mlflow.exceptions import MlflowException

from slmflow.errors import UserError
from slmflow.runtime.protocol import Deliver, Event, Request
from slmflow.serving.loaded_model import LoadedModel, load
from slmflow.system.child_processes import claim_stdout

# Each blocks on the model, whose scheduler batches these requests with those of OpenAI's API.
_INVOCATION_THREADS = 8


class Worker:
    """Dispatch requests to a loaded model."""

    def __init__(self, model: LoadedModel, deliver: Deliver) -> None:
        """Deliver the responses of `invocations`; the session delivers all others."""
        self._model, self._deliver = model, deliver
        self._threads = ThreadPoolExecutor(max_workers=_INVOCATION_THREADS)

    def handle(self, request: Request) -> None:
        """Start or cancel a request."""
        session = self._model.session
        if request["type"] == "cancel":
            session.cancel(request["id"])
        elif request["type"] == "invocations":
            tracked = session.track(request["id"])  # now, so that an early `cancel` takes effect
            self._threads.submit(self._invoke, request, tracked)
        elif request["type"] == "together":
            self._submit_together(request["requests"])
        else:
            session.submit(request)

    def _submit_together(self, requests: list[Request]) -> None:
        session = self._model.session
        if hasattr(session, "submit_all"):
            session.submit_all(requests)
            return
        for each in requests:  # a model of an older slmflow
            session.submit(each)

    def _invoke(
        self, request: dict[str, Any], tracked: AbstractContextManager[list[Event]]
    ) -> None:
        request_id = request["id"]
        self._deliver({"id": request_id, "type": "started"})
        try:
            with tracked as finished:
                response = self._model.invoke(request["body"], request["content_type"])
        except Exception as error:
            message = f"{type(error).__name__}: {error}"
            self._deliver({"id": request_id, "type": "failed", "message": message})
            return
        self._deliver({"id": request_id, "type": "response", "finished": finished, **response})


def _main() -> None:
    stdout, lock = claim_stdout(), threading.Lock()

    def write(message: Event) -> None:
        line = json.dumps(message)
        with lock:
            print(line, file=stdout, flush=True)

    try:
        model = load(sys.argv[1], write, cache_mb=int(sys.argv[2]))
    except (UserError, MlflowException) as error:
        write({"type": "rejected", "message": str(error)})
        return
    session = model.session
    variables = getattr(session, "template_variables", None)
    write(
        {
            "type": "ready",
            "model_name": session.model_name,
            # A model of an older slmflow has a chat template, and no such attribute.
            "takes_messages": getattr(session, "takes_messages", True),
            "protocol_version": model.protocol_version,
            "template_variables": None if variables is None else sorted(variables),
            "adapters": list(getattr(session, "adapters", ())),
        }
    )
    worker = Worker(model, write)
    for line in sys.stdin:
        worker.handle(json.loads(line))
    os._exit(0)  # nobody reads what is still being generated


if __name__ == "__main__":
    _main()
