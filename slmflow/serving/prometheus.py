"""Prometheus metrics of a server: requests, queue, tokens and durations."""

from collections.abc import Callable

from fastapi.responses import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

from slmflow.runtime.protocol import Event
from slmflow.serving.model_process import ModelProcess

# In seconds: from a tiny model's first token to a long completion on a slow machine.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

# Weight of a new duration in the moving average.
_NEW_WEIGHT = 1 / 16


class Metrics:
    """The metrics of one server."""

    def __init__(self, model: ModelProcess) -> None:
        """Start at zero, and follow the requests of a model."""
        self._registry = CollectorRegistry()
        self._responses = self._counter(
            "slmflow_requests", "Requests answered.", ["path", "status"]
        )
        self._cancelled = self._counter(
            "slmflow_requests_cancelled", "Requests whose client disconnected."
        )
        self._prompt_tokens = self._counter("slmflow_prompt_tokens", "Prompt tokens read.")
        self._completion_tokens = self._counter("slmflow_completion_tokens", "Tokens generated.")
        self._first_token_s = self._histogram(
            "slmflow_time_to_first_token_seconds", "From the request to the first token."
        )
        self._queue_s = self._histogram(
            "slmflow_queue_seconds", "From the request to the start of prefill."
        )
        self._total_s = self._histogram(
            "slmflow_answer_seconds", "From the request to the last token."
        )
        self._gauge("slmflow_requests_waiting", "Requests in the queue.", lambda: model.waiting)
        self._gauge("slmflow_requests_running", "Requests being answered.", lambda: model.running)
        self.mean_total_s = 1.0
        model.on_finished, model.on_cancel = self.record_completion, self._cancelled.inc

    def count_response(self, path: str, status: int) -> None:
        """Count a response."""
        self._responses.labels(path, status).inc()

    def record_completion(self, finished: Event) -> None:
        """Record a completion that is finished or cancelled."""
        usage = finished["usage"]
        if usage["completion_tokens"]:
            self._prompt_tokens.inc(usage["prompt_tokens"])
            self._completion_tokens.inc(usage["completion_tokens"])
        if finished["finish_reason"] == "cancelled":
            return
        self._queue_s.observe(finished["queue_s"])
        self._first_token_s.observe(finished["first_token_s"])
        self._total_s.observe(finished["total_s"])
        self.mean_total_s += _NEW_WEIGHT * (finished["total_s"] - self.mean_total_s)

    def page(self) -> Response:
        """Return all metrics in Prometheus' format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _counter(self, name: str, description: str, labels: list[str] | None = None) -> Counter:
        return Counter(name, description, labels or [], registry=self._registry)

    def _histogram(self, name: str, description: str) -> Histogram:
        return Histogram(name, description, buckets=_BUCKETS, registry=self._registry)

    def _gauge(self, name: str, description: str, value: Callable[[], float]) -> None:
        Gauge(name, description, registry=self._registry).set_function(value)
