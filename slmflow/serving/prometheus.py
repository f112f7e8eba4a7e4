"""What Prometheus is told of a server: requests, queue, tokens, and how long they took."""

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

from slmflow.serving.model_process import Event, ModelProcess

# Seconds: from a tiny model's first token to a long answer on a slow machine.
_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """The figures of one server."""

    def __init__(self, model: ModelProcess) -> None:
        """Begin at zero."""
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "slmflow_requests", "Requests answered.", ["path", "status"], registry=registry
        )
        self._cancelled = Counter(
            "slmflow_requests_cancelled", "Requests whose client went away.", registry=registry
        )
        self._prompt = Counter(
            "slmflow_prompt_tokens", "Tokens of prompts read.", registry=registry
        )
        self._completion = Counter(
            "slmflow_completion_tokens", "Tokens generated.", registry=registry
        )
        self._first = self._histogram(
            "slmflow_time_to_first_token_seconds", "From a request to the first token."
        )
        self._waited = self._histogram(
            "slmflow_queue_seconds", "From a request to when the model takes it."
        )
        self._seconds = self._histogram(
            "slmflow_answer_seconds", "From a request to the last token."
        )
        self._gauge("slmflow_requests_waiting", "Requests in the queue.", lambda: model.waiting)
        self._gauge("slmflow_requests_running", "Requests being answered.", lambda: model.running)
        self._mean_s = 1.0
        model.on_answer, model.on_cancel = self.answer, self._cancelled.inc

    def request(self, path: str, status: int) -> None:
        """Note a request that was answered with a status."""
        self._requests.labels(path, status).inc()

    def answer(self, answer: Event) -> None:
        """Note an answer that the model has finished, or that nobody wanted any more."""
        if answer["completion_tokens"]:
            self._prompt.inc(answer["prompt_tokens"])
            self._completion.inc(answer["completion_tokens"])
        if answer["finish_reason"] == "cancelled":
            return
        self._waited.observe(answer["waited_s"])
        self._first.observe(answer["first_token_s"])
        self._seconds.observe(answer["seconds"])
        self._mean_s += (answer["seconds"] - self._mean_s) / 16

    @property
    def mean_seconds(self) -> float:
        """How long an answer took of late."""
        return self._mean_s

    def page(self) -> Response:
        """Return all figures in Prometheus' format."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)

    def _histogram(self, name: str, what: str) -> Histogram:
        return Histogram(name, what, buckets=_BUCKETS, registry=self._registry)

    def _gauge(self, name: str, what: str, value: Callable[[], float]) -> None:
        Gauge(name, what, registry=self._registry).set_function(value)
