"""A trace in MLflow of each request: written by a thread of its own, after the answer."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
from mlflow.entities import SpanStatusCode, SpanType
from mlflow.tracing.constant import SpanAttributeKey

from steps.common import console
from steps.common.config import Tracing
from steps.serve.model_process import Event
from steps.serve.openai_requests import Asked

# Requests whose traces wait to be written; more are left out rather than kept in memory.
_MOST_WAITING = 1000


class Tracer:
    """Writes traces to an experiment: none, usage alone, or prompt and answer too."""

    def __init__(self, tracing: Tracing, experiment_id: str) -> None:
        """Write what `tracing` says."""
        self._tracing, self._experiment_id = tracing, experiment_id
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracing")
        self._room = threading.BoundedSemaphore(_MOST_WAITING)
        self._failed = False

    def answered(self, path: str, asked: Asked, answer: Event) -> None:
        """Note a request and its finished answer."""
        if self._tracing is Tracing.off or not self._room.acquire(blocking=False):
            return
        content = self._tracing is Tracing.content
        self._writing.submit(
            self._write,
            path,
            time.time_ns(),
            answer,
            {"inputs": asked.given, "outputs": answer["text"]} if content else {},
        )

    def close(self) -> None:
        """Write what waits to be written."""
        self._writing.shutdown()
        if self._tracing is not Tracing.off:
            mlflow.flush_trace_async_logging()

    def _write(self, path: str, end_ns: int, answer: Event, content: dict[str, Any]) -> None:
        try:
            span = mlflow.start_span_no_context(
                name=path,
                span_type=SpanType.CHAT_MODEL,
                inputs=content.get("inputs"),
                experiment_id=self._experiment_id,
                start_time_ns=end_ns - round(answer["seconds"] * 1e9),
            )
            prompt, said = answer["prompt_tokens"], answer["completion_tokens"]
            usage = {"input_tokens": prompt, "output_tokens": said, "total_tokens": prompt + said}
            span.set_attribute(SpanAttributeKey.CHAT_USAGE, usage)
            span.set_attributes(
                {
                    "slmflow.time_to_first_token_ms": answer["first_token_s"] * 1e3,
                    "slmflow.queue_ms": answer["waited_s"] * 1e3,
                    "slmflow.finish_reason": answer["finish_reason"],
                }
            )
            span.end(outputs=content.get("outputs"), status=SpanStatusCode.OK, end_time_ns=end_ns)
        except Exception as error:
            if not self._failed:
                console.warn(f"traces cannot be written: {error}")
            self._failed = True
        finally:
            self._room.release()
