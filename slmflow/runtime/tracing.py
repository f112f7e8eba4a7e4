"""A trace in MLflow of each answer: written by a thread of its own, after the answer."""

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlflow
from mlflow.entities import SpanStatusCode, SpanType
from mlflow.tracing.constant import SpanAttributeKey

from .errors import refuse
from .generation.answer import Answer

OFF, USAGE, CONTENT = LEVELS = ("off", "usage", "content")

_log = logging.getLogger(__name__)

# Answers whose traces wait to be written; more are left out rather than kept in memory.
_MOST_WAITING = 1000


class Tracer:
    """Writes traces to an experiment: none, usage alone, or prompt and answer too."""

    def __init__(
        self,
        level: str,
        experiment_id: str | None = None,
        warn: Callable[[str], None] = _log.warning,
    ) -> None:
        """Write what `level` says, one of `LEVELS`; without an experiment, to MLflow's active one.

        Raises MlflowException for another level.
        """
        if level not in LEVELS:
            refuse(f"SLMFLOW_TRACING={level!r}: give {', '.join(LEVELS)}")
        self._level, self._experiment_id, self._warn = level, experiment_id, warn
        self._writing = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tracing")
        self._room = threading.BoundedSemaphore(_MOST_WAITING)
        self._failed = False

    def answered(self, name: str, request: Mapping[str, Any], answer: Answer) -> None:
        """Note a request and its answer; `name` says which way it came."""
        if self._level == OFF or not self._room.acquire(blocking=False):
            return
        texts = {"inputs": request, "outputs": answer.text} if self._level == CONTENT else {}
        self._writing.submit(self._write, name, answer, texts)

    def close(self) -> None:
        """Write what waits to be written."""
        self._writing.shutdown()
        if self._level != OFF:
            mlflow.flush_trace_async_logging()

    def _write(self, name: str, answer: Answer, texts: Mapping[str, Any]) -> None:
        try:
            span = mlflow.start_span_no_context(
                name=name,
                span_type=SpanType.CHAT_MODEL,
                inputs=texts.get("inputs"),
                experiment_id=self._experiment_id,
                start_time_ns=answer.ended_ns - round(answer.seconds * 1e9),
            )
            span.set_attribute(SpanAttributeKey.CHAT_USAGE, _usage(answer))
            span.set_attributes(
                {
                    "slmflow.time_to_first_token_ms": answer.first_token_s * 1e3,
                    "slmflow.queue_ms": answer.waited_s * 1e3,
                    "slmflow.finish_reason": answer.finish_reason,
                }
            )
            span.end(
                outputs=texts.get("outputs"),
                status=SpanStatusCode.OK,
                end_time_ns=answer.ended_ns,
            )
        except Exception as error:
            if not self._failed:
                self._warn(f"traces cannot be written: {error}")
            self._failed = True
        finally:
            self._room.release()


def _usage(answer: Answer) -> dict[str, int]:
    prompt, said = answer.prompt_tokens, answer.completion_tokens
    return {"input_tokens": prompt, "output_tokens": said, "total_tokens": prompt + said}
