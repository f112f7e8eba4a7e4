"""Trace each completion in MLflow, in a separate thread after the completion."""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from typing import Any

import mlflow
from mlflow.entities import SpanStatusCode, SpanType
from mlflow.tracing.constant import SpanAttributeKey

from .completions import shape_call
from .errors import reject

OFF, USAGE, CONTENT = LEVELS = ("off", "usage", "content")

MODEL_URI, ADAPTER, ERROR = "slmflow.model_uri", "slmflow.adapter", "slmflow.error"
"""What a trace of the server records besides: metadata, metadata, and an attribute."""

REJECTED, FAILED = "rejected", "failed"
"""The values of `ERROR`: the request was at fault, or the server."""

_log = logging.getLogger(__name__)

# Further traces are dropped rather than kept in memory.
_MAX_QUEUED_TRACES = 1000


class Tracer:
    """Write traces to an experiment: none, usage only, or prompt and completion too."""

    def __init__(
        self,
        level: str,
        experiment_id: str | None = None,
        warn: Callable[[str], None] = _log.warning,
        metadata: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Trace at a level of `LEVELS`, by default to MLflow's active experiment.

        metadata: of every trace, such as the model that answers. Raises MlflowException for
        another level.
        """
        if level not in LEVELS:
            reject(f"SLMFLOW_TRACING={level!r}: use one of {', '.join(LEVELS)}")
        self._level, self._experiment_id, self._warn = level, experiment_id, warn
        self._metadata = dict(metadata)
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracing")
        self._free_slots = threading.BoundedSemaphore(_MAX_QUEUED_TRACES)
        self._warned = False

    def trace(self, name: str, request: Mapping[str, Any], completion: Mapping[str, Any]) -> None:
        """Queue the trace of a request; `name` is its endpoint or method.

        `completion` has the fields of the event `finished` in `protocol`.
        """
        if self._is_full():
            return
        content = {}
        if self._level == CONTENT:
            content = {"inputs": request, "outputs": _output(completion)}
        metadata = self._metadata_for(request)
        self._writer.submit(self._write, self._write_finished, name, completion, content, metadata)

    def trace_failure(self, name: str, request: Mapping[str, Any], kind: str) -> None:
        """Queue the trace of a request that got no completion; kind: `REJECTED` or `FAILED`."""
        if self._is_full():
            return
        content = {"inputs": request} if self._level == CONTENT else {}
        failure = {"kind": kind, "ended_ns": time.time_ns()}
        metadata = self._metadata_for(request)
        self._writer.submit(self._write, self._write_failed, name, failure, content, metadata)

    def close(self) -> None:
        """Write the queued traces."""
        self._writer.shutdown()
        if self._level != OFF:
            mlflow.flush_trace_async_logging()

    def _is_full(self) -> bool:
        """Return whether a trace cannot be queued, or none is wanted; else reserve a place."""
        return self._level == OFF or not self._free_slots.acquire(blocking=False)

    def _metadata_for(self, request: Mapping[str, Any]) -> dict[str, str]:
        adapter = request.get("adapter")
        return self._metadata | ({ADAPTER: adapter} if isinstance(adapter, str) else {})

    def _write_finished(
        self,
        name: str,
        completion: Mapping[str, Any],
        content: Mapping[str, Any],
        metadata: dict[str, str],
    ) -> None:
        ended_ns, usage = completion["ended_ns"], completion["usage"]
        started_ns = ended_ns - round(completion["total_s"] * 1e9)
        span = self._start_span(name, content, metadata, started_ns)
        if tools := content.get("inputs", {}).get("tools"):
            span.set_attribute(SpanAttributeKey.CHAT_TOOLS, tools)
        span.set_attributes(
            {
                SpanAttributeKey.CHAT_USAGE: {
                    "input_tokens": usage["prompt_tokens"],
                    "output_tokens": usage["completion_tokens"],
                    "total_tokens": usage["total_tokens"],
                },
                "slmflow.time_to_first_token_ms": completion["first_token_s"] * 1e3,
                "slmflow.queue_ms": completion["queue_s"] * 1e3,
                "slmflow.finish_reason": completion["finish_reason"],
            }
        )
        span.end(outputs=content.get("outputs"), status=SpanStatusCode.OK, end_time_ns=ended_ns)

    def _write_failed(
        self,
        name: str,
        failure: Mapping[str, Any],
        content: Mapping[str, Any],
        metadata: dict[str, str],
    ) -> None:
        ended_ns = failure["ended_ns"]
        span = self._start_span(name, content, metadata, ended_ns)
        span.set_attribute(ERROR, failure["kind"])
        span.end(status=SpanStatusCode.ERROR, end_time_ns=ended_ns)

    def _start_span(
        self, name: str, content: Mapping[str, Any], metadata: dict[str, str], started_ns: int
    ) -> Any:
        return mlflow.start_span_no_context(
            name=name,
            span_type=SpanType.CHAT_MODEL,
            inputs=content.get("inputs"),
            metadata=metadata or None,
            experiment_id=self._experiment_id,
            start_time_ns=started_ns,
        )

    def _write(self, write: Callable[..., None], *what: Any) -> None:
        try:
            write(*what)
        except Exception as error:
            if not self._warned:
                self._warn(f"cannot write traces: {error}")
            self._warned = True
        finally:
            self._free_slots.release()


def _output(completion: Mapping[str, Any]) -> Any:
    """Return the text of a completion, or its message if it calls tools."""
    if not (calls := completion.get("tool_calls")):
        return completion["text"]
    shaped = [shape_call(call) for call in calls]
    return {"role": "assistant", "content": completion["text"] or None, "tool_calls": shaped}
