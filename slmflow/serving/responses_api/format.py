"""The model's events as answers of /v1/responses: whole, or as a stream of events."""

import json
import time
from typing import Any

from fastapi.responses import JSONResponse

from slmflow.runtime.protocol import Event
from slmflow.serving.errors import RequestError
from slmflow.serving.responses_api.output_items import (
    ANSWER,
    REASONING,
    SUMMARY,
    CallItem,
    Fields,
    OpenItem,
    TextItem,
    new_id,
)
from slmflow.serving.responses_api.requests import ResponsesRequest


class ResponsesFormat:
    """Format the events of one request."""

    def __init__(self, request: ResponsesRequest, model_name: str) -> None:
        """Answer a request in the name of a model."""
        self._reasoning_style = SUMMARY if request.summarizes else REASONING
        self._head = {
            "id": new_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "model": model_name,
            **request.repeated,
        }
        self._output: list[Fields] = []
        self._item: OpenItem | None = None
        self._sequence_number = 0

    def whole(self, finished: Event) -> JSONResponse:
        """Return a response without a stream."""
        if reasoning := finished.get("reasoning"):
            self._write({"text": "", "reasoning": reasoning})
        if finished["text"]:
            self._write({"text": finished["text"], "logprobs": finished.get("logprobs", ())})
        for index, call in enumerate(finished.get("tool_calls", ())):
            self._write({"text": "", "tool_call": {"index": index, **call}})
        self._end(finished)
        return JSONResponse(self._response(finished))

    def first(self) -> str:
        """Return the events that open a stream."""
        response = self._snapshot("in_progress")
        kinds = ("response.created", "response.in_progress")
        return self._send([{"type": kind, "response": response} for kind in kinds])

    def piece(self, event: Event) -> str:
        """Return the events for a piece of the reasoning, of the answer or of a call."""
        return self._send(self._write(event))

    def last(self, finished: Event) -> str:
        """Return the events that end a stream."""
        events = self._end(finished)
        response = self._response(finished)
        return self._send(
            [*events, {"type": f"response.{response['status']}", "response": response}]
        )

    def error(self, error: RequestError) -> str:
        """Return the event for an error after the status has been sent."""
        fault = {"code": "server_error", "message": str(error)}
        response = self._snapshot("failed", error=fault)
        return self._send([{"type": "response.failed", "response": response}])

    def _write(self, piece: Event) -> list[Fields]:
        """Add a piece to the item that it belongs to, and return the events that tell of it."""
        logprobs = [_logprob(each) for each in piece.get("logprobs", ())]
        if call := piece.get("tool_call"):
            events, text = self._switch_to(call["index"], call), call.get("arguments") or ""
        elif "reasoning" in piece:  # may consist of tokens without text, at its end
            if not (text := piece["reasoning"]):
                return []
            events = self._switch_to(self._reasoning_style)
        elif (text := piece["text"]) or logprobs:
            events = self._switch_to(ANSWER)
        else:
            return []
        if self._item is not None and (text or logprobs):
            events += self._item.write(text, logprobs)
        return events

    def _switch_to(self, key: Any, call: Event | None = None) -> list[Fields]:
        """Begin another item, unless the current one has the key. Return the events."""
        if self._item is not None and self._item.key == key:
            return []
        events = self._close("completed")
        index = len(self._output)
        self._item = (
            CallItem(key, call["id"], call["name"], index) if call else TextItem(key, index)
        )
        return events + self._item.open()

    def _end(self, finished: Event) -> list[Fields]:
        """End the last item. An answer without any has an empty text."""
        events = []
        if self._item is None:
            events = self._switch_to(ANSWER)
        return events + self._close(_status(finished))

    def _close(self, status: str) -> list[Fields]:
        if self._item is None:
            return []
        item, self._item = self._item, None
        self._output.append(item.to_json(status))
        return item.close(status)

    def _response(self, finished: Event) -> Fields:
        status = _status(finished)
        details = {"reason": "max_output_tokens"} if status == "incomplete" else None
        usage = _usage(finished)
        return self._snapshot(status, incomplete_details=details, usage=usage)

    def _snapshot(self, status: str, **fields: Any) -> Fields:
        ends = {"error": None, "incomplete_details": None, "usage": None}
        return {**self._head, "status": status, **ends, **fields, "output": list(self._output)}

    def _send(self, events: list[Fields]) -> str:
        """Return events as server-sent events, in their order within the stream."""
        sent = []
        for event in events:
            data = json.dumps({**event, "sequence_number": self._sequence_number})
            sent.append(f"event: {event['type']}\ndata: {data}\n\n")
            self._sequence_number += 1
        return "".join(sent)


def _status(finished: Event) -> str:
    return "incomplete" if finished["finish_reason"] == "length" else "completed"


def _usage(finished: Event) -> Fields:
    usage = finished["usage"]
    # A model of an older slmflow does not count them.
    reasoning = finished.get("reasoning_tokens", 0)
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": reasoning},
        "total_tokens": usage["total_tokens"],
    }


def _logprob(token: Fields) -> Fields:
    return {**_chance(token), "top_logprobs": [_chance(each) for each in token["top"]]}


def _chance(token: Fields) -> Fields:
    return {"token": token["text"], "bytes": token["bytes"], "logprob": token["logprob"]}
