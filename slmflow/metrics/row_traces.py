"""A model's answers as traces of its run: what the UI's tab Traces shows of an evaluation.

Each has the question, the answer, the expected one, that of the reference, the scores and, where
they were measured, the tokens and the latency. The worst regressions come first in the answer
table, and only so many rows are logged: a trace takes several requests. The artifact
`eval_results_table.json` has all rows.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Assessment, Expectation, Feedback, SpanType
from mlflow.tracing.constant import SpanAttributeKey, TraceMetadataKey
from mlflow.tracing.trace_manager import InMemoryTraceManager
from mlflow.utils.uri import is_databricks_uri

from slmflow.console import library_output
from slmflow.metrics import text_scores
from slmflow.metrics.answer_table import accepted_answers
from slmflow.pipeline import runs

MAX_ROWS = 50
"""The most rows of a model that become traces."""

SOURCE = "evaluation"
"""Value of the tag `slmflow.step` of these traces, which served requests do not have."""


def log(run_id: str, model_id: str | None, table: pd.DataFrame) -> None:
    """Log the first rows of a model's answer table as traces of a run.

    Databricks is left out: its traces live elsewhere.
    """
    if is_databricks_uri(mlflow.get_tracking_uri()):
        return
    experiment_id = str(MlflowClient().get_run(run_id).info.experiment_id)
    # Hide "Flushing the async trace logging queue before program exit": all is flushed here.
    logging.getLogger("mlflow.tracing.export.async_export_queue").setLevel(logging.WARNING)
    shown = table.head(MAX_ROWS)
    accepted = accepted_answers(shown)
    metadata = {TraceMetadataKey.SOURCE_RUN: run_id}
    if model_id:
        metadata[TraceMetadataKey.MODEL_ID] = model_id
    with library_output.silence():
        for row, answers in zip(shown.to_dict("records"), accepted, strict=True):
            _log_row(experiment_id, metadata, row, answers)
        mlflow.flush_trace_async_logging()


def _log_row(
    experiment_id: str, metadata: dict[str, str], row: Mapping[str, Any], accepted: list[str]
) -> None:
    ended_ns = time.time_ns()
    span = mlflow.start_span_no_context(
        name="answer",
        span_type=SpanType.CHAT_MODEL,
        inputs=row["question"],
        tags={runs.STEP: SOURCE},
        metadata=metadata,
        experiment_id=experiment_id,
        start_time_ns=ended_ns - round((_number(row, "latency_s") or 0) * 1e9),
    )
    tokens = [_number(row, name) for name in ("prompt_tokens", "completion_tokens")]
    if None not in tokens:
        prompt, completion = (int(each or 0) for each in tokens)
        usage = {"input_tokens": prompt, "output_tokens": completion}
        total = {"total_tokens": prompt + completion}
        span.set_attribute(SpanAttributeKey.CHAT_USAGE, usage | total)
    with InMemoryTraceManager.get_instance().get_trace(span.trace_id) as trace:
        if trace is not None:
            trace.info.assessments.extend(_assessments(row, accepted))
    span.end(outputs=row["prediction"], end_time_ns=ended_ns)


def _assessments(row: Mapping[str, Any], accepted: list[str]) -> Iterator[Assessment]:
    yield Expectation(name="expected_response", value=accepted[0])
    if isinstance(reference := row.get("reference"), str):
        yield Expectation(name="reference", value=reference)
        yield Feedback(name="agreement", value=reference == row["prediction"])
    for name, score in (
        ("exact_match", text_scores.exact_match),
        ("token_f1", text_scores.token_f1),
    ):
        value = text_scores.best(score, row["prediction"], accepted)
        yield Feedback(name=name, value=bool(value) if name == "exact_match" else float(value))


def _number(row: Mapping[str, Any], name: str) -> float | None:
    """Return a number of a row; None if it was not measured."""
    value = row.get(name)
    return None if value is None or pd.isna(value) else float(value)
