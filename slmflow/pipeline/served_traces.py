"""Read the traces that `serve` wrote: requests, answers, times, and what people said of them."""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Trace, TraceState
from mlflow.exceptions import MlflowException
from mlflow.tracing.constant import TraceMetadataKey
from mlflow.tracking.fluent import _get_experiment_id
from sqlalchemy.exc import SQLAlchemyError

from slmflow.config.schema.traces import oldest_ms
from slmflow.errors import BadArguments
from slmflow.pipeline import tracking_errors
from slmflow.runtime.tracing import ADAPTER, ERROR, MODEL_URI, REJECTED

_PAGE = 100

# Names of an expectation, or of a feedback in words, that is the right answer; in this order.
_EXPECTED = ("expected_response", "expected_answer", "expected_output", "answer", "correction")

_BAD = (False, "no", "bad")


@dataclass(frozen=True)
class ServedRequest:
    """A request that the server answered or refused, as its trace has it.

    model_uri, model_id: of the model that served it; adapter: that answered in its place. is_error:
    it got no answer. is_rejected: because the request was at fault, not the server (HTTP 4xx).
    messages, answer: None unless the trace has its content, as text. expected: the right answers
    that people gave. is_disliked: somebody marked the answer as bad.
    """

    trace_id: str
    model_uri: str
    model_id: str | None
    adapter: str | None
    is_error: bool
    is_rejected: bool
    latency_ms: float | None
    first_token_ms: float | None
    prompt_tokens: int | None
    output_tokens: int | None
    messages: list[dict[str, str]] | None
    answer: str | None
    expected: tuple[str, ...]
    is_disliked: bool


def read(
    section: str,
    experiment: str | None,
    last: int,
    since: str | None,
    model_id: str | None = None,
) -> list[ServedRequest]:
    """Return the newest traced requests, the newest first.

    section: of the config, for messages; model_id: only of this logged model. Raises UserError if
    there is no such experiment, or the tracking server cannot be used.
    """
    try:
        return list(_read(section, experiment, last, since, model_id))
    except (MlflowException, SQLAlchemyError) as error:
        raise tracking_errors.server_error(error) from error


def _read(
    section: str, experiment: str | None, last: int, since: str | None, model_id: str | None
) -> Iterator[ServedRequest]:
    client, token, count = MlflowClient(), None, 0
    location = _experiment_id(client, section, experiment)
    conditions = [f"metadata.`{MODEL_URI}` LIKE '%'"]
    if since is not None:
        conditions.append(f"attributes.timestamp_ms >= {oldest_ms(since)}")
    if model_id is not None:
        conditions.append(f"metadata.`{TraceMetadataKey.MODEL_ID}` = '{model_id}'")
    while count < last:
        page = client.search_traces(
            locations=[location],
            filter_string=" AND ".join(conditions),
            max_results=min(_PAGE, last - count),
            order_by=["timestamp_ms DESC"],
            page_token=token,
        )
        yield from map(of_trace, page)
        count, token = count + len(page), page.token
        if not page or not token:
            return


def _experiment_id(client: MlflowClient, section: str, name: str | None) -> str:
    """Return the id of an experiment, by default of the run, or of the next one."""
    if name is not None:
        if (found := client.get_experiment_by_name(name)) is None:
            raise BadArguments(
                f"{section}.experiment={name!r}: there is no such experiment on "
                f"{tracking_errors.server_address()}"
            )
        return str(found.experiment_id)
    if run_id := os.environ.get("MLFLOW_RUN_ID"):
        return str(client.get_run(run_id).info.experiment_id)
    if active := mlflow.active_run():
        return str(active.info.experiment_id)
    return str(_get_experiment_id())


def of_trace(trace: Trace) -> ServedRequest:
    """Return the request of a trace; what its content should not be is left out."""
    info, metadata = trace.info, trace.info.trace_metadata
    span = next((span for span in trace.data.spans if span.parent_id is None), None)
    attributes: Mapping[str, Any] = (span.attributes or {}) if span else {}
    usage = info.token_usage or {}
    is_error = info.state == TraceState.ERROR
    expected, is_disliked = _assessments(info.assessments or [])
    return ServedRequest(
        trace_id=info.trace_id,
        model_uri=metadata.get(MODEL_URI, ""),
        model_id=metadata.get(TraceMetadataKey.MODEL_ID),
        adapter=metadata.get(ADAPTER),
        is_error=is_error,
        is_rejected=is_error and attributes.get(ERROR) == REJECTED,
        latency_ms=None if is_error else _number(info.execution_duration),
        first_token_ms=_number(attributes.get("slmflow.time_to_first_token_ms")),
        prompt_tokens=_count(usage.get("input_tokens")),
        output_tokens=_count(usage.get("output_tokens")),
        messages=_messages(span.inputs) if span else None,
        answer=_answer(span.outputs) if span else None,
        expected=expected,
        is_disliked=is_disliked,
    )


def _assessments(assessments: list[Any]) -> tuple[tuple[str, ...], bool]:
    """Return the right answers that people gave, and whether one said that the answer is bad."""
    valid = [each for each in assessments if each.valid is not False]
    named = {each.name: each.expectation.value for each in valid if each.expectation}
    named |= {
        each.name: each.feedback.value
        for each in valid
        if each.feedback and each.name in _EXPECTED and each.name not in named
    }
    answers = [_texts(named[name]) for name in _EXPECTED if name in named]
    answers += [_texts(value) for name, value in named.items() if name not in _EXPECTED]
    given = next((texts for texts in answers if texts), ())
    verdicts = (each.feedback.value for each in valid if each.feedback)
    return given, any(isinstance(v, bool | str) and v in _BAD for v in verdicts)


def _texts(value: Any) -> tuple[str, ...]:
    """Return the accepted answers of an expectation; none if it is something else."""
    items = value if isinstance(value, list) else [value]
    if not all(isinstance(item, str) and item.strip() for item in items):
        return ()
    return tuple(dict.fromkeys(items))


def _messages(inputs: Any) -> list[dict[str, str]] | None:
    """Return the messages of a request, if all are text, and it has no tools."""
    if isinstance(inputs, dict) and isinstance(inputs.get("body"), str):  # of /invocations
        inputs = _json(inputs["body"])
    if not isinstance(inputs, dict) or inputs.get("tools"):
        return None
    messages = inputs.get("messages")
    if not isinstance(messages, list) or not messages:
        return None
    shaped = [_message(message) for message in messages]
    return None if None in shaped else [message for message in shaped if message]


def _message(message: Any) -> dict[str, str] | None:
    if not isinstance(message, dict):
        return None
    role, content = message.get("role"), message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") if isinstance(part, dict) else None for part in content]
        texts = [part for part in parts if isinstance(part, str)]
        content = "".join(texts) if len(texts) == len(parts) else None
    has_more = any(value for key, value in message.items() if key not in ("role", "content"))
    if has_more or not isinstance(role, str) or not isinstance(content, str):
        return None
    return {"role": "system" if role == "developer" else role, "content": content}


def _answer(outputs: Any) -> str | None:
    """Return the text of a completion, the first if there are several."""
    if isinstance(outputs, list):
        outputs = outputs[0] if outputs else None
    if isinstance(outputs, str) and outputs.startswith(("{", "[")):
        outputs = _completion_text(_json(outputs)) or outputs
    return outputs if isinstance(outputs, str) and outputs.strip() else None


def _completion_text(response: Any) -> str | None:
    """Return the text in a response of /invocations, else None."""
    if isinstance(response, list) and response:
        response = response[0]
    match response:
        case {"choices": [{"message": {"content": str(text)}}, *_]}:
            return text
    return None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value < float("inf") else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)
