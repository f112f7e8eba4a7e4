"""Answer rows with slmflow's runtime, whose scheduler forms the batches."""

import queue
from collections.abc import Iterator, Mapping
from typing import Any

from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel

from slmflow.datasets.rows import Row
from slmflow.errors import UserError
from slmflow.flavors.chat_interfaces import Completion, find_interface
from slmflow.measurement.answers.single import SingleAnswerer, to_answer
from slmflow.measurement.records import Answer
from slmflow.runtime import protocol

# The first version of the protocol whose sessions take `cache_mb`; and what examples that the rows
# share may take, where nothing is timed.
_CACHE_VERSION, _CACHE_MB = 2, 1024


class SessionClient:
    """Sends requests to the session of a loaded model, as many at once as there are."""

    def __init__(self, model: PyFuncModel) -> None:
        """Open the session of a model that slmflow logged."""
        self._events: queue.SimpleQueue[protocol.Event] = queue.SimpleQueue()
        self._python_model: Any = model.unwrap_python_model()
        self._session: protocol.Session = self._python_model.open_session(self._events.put)
        self.takes_messages: bool = getattr(self._session, "takes_messages", True)

    def limit_cache(self, megabytes: int) -> None:
        """Limit what the model keeps of earlier requests; 0 keeps nothing."""
        if self._python_model.protocol_version >= _CACHE_VERSION:
            deliver = self._events.put
            self._session = self._python_model.open_session(deliver, cache_mb=megabytes)

    def send(self, requests: Mapping[int, protocol.Request]) -> Iterator[protocol.Event]:
        """Yield the final event of each request, in any order; its id is the request's number."""
        for number, request in requests.items():
            self._session.submit({"id": number, **request})
        for _ in requests:
            while not protocol.is_final(event := self._events.get()):
                pass
            yield event


class SessionAnswerer(SingleAnswerer):
    """Answers rows by requests to the session of a model that slmflow logged."""

    def __init__(self, model: PyFuncModel, seed: int | None) -> None:
        """Answer with a loaded model that slmflow logged."""
        super().__init__(model, seed)
        self._client = SessionClient(model)
        self._client.limit_cache(0)  # a timed request must not go on from an earlier one
        self._takes_prompt = find_interface(model.metadata).takes_prompt
        self._options = {} if seed is None else {"seed": seed}

    def answer(self, rows: Mapping[int, Row]) -> Iterator[tuple[int, Answer]]:
        """Yield the number of each row with its answer, in any order."""
        self._client.limit_cache(_CACHE_MB)
        requests = {number: self._build_request(row) for number, row in rows.items()}
        for event in self._client.send(requests):
            yield event["id"], self._to_answer(event)

    def _build_request(self, row: Row) -> protocol.Request:
        if self._client.takes_messages:
            return {"type": "chat", "body": {"messages": row.messages, **self._options}}
        body = {"prompt": row.messages[0]["content"], **self._options}
        return {"type": "completion", "body": body}

    def _to_answer(self, event: protocol.Event) -> Answer:
        match event["type"]:
            case "rejected":
                return Answer("", None, None, error=event["message"])
            case "failed":
                raise UserError(event["message"])
        text = event["text"].strip() if self._takes_prompt else event["text"]
        usage = event["usage"]
        completion = Completion(
            text, usage["prompt_tokens"], usage["completion_tokens"], event.get("reasoning", "")
        )
        return to_answer(completion)


def speaks_protocol(model: PyFuncModel) -> bool:
    """Return whether a loaded model has sessions of a version that is known here."""
    try:
        python_model = model.unwrap_python_model()
    except MlflowException:  # not a Python model
        return False
    version = getattr(python_model, "protocol_version", None)
    return isinstance(version, int) and version <= protocol.PROTOCOL_VERSION
