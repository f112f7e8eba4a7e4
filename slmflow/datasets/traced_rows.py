"""Make evaluation rows of traced requests, and keep them in the store.

The first step reads the traces and passes the file of rows on to the others, in
`evaluation.traces.rows`. So all steps of a run have the same rows, whatever is served meanwhile,
and results are reused while the rows stay the same.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from slmflow.config import compose, overrides
from slmflow.config.schema.config import Config
from slmflow.config.schema.evaluation import Columns
from slmflow.console import messages
from slmflow.datasets import expected_answers, row_checks
from slmflow.errors import UserError
from slmflow.pipeline import entries, served_traces
from slmflow.pipeline.served_traces import ServedRequest

FILE = "rows.jsonl"

SERVED_BY, ORIGIN = "served_by", "answer_from"
"""Further columns: the URI of the model that served a row, and where its answer is from."""


def load_config(step_overrides: Sequence[str]) -> tuple[Sequence[str], Config]:
    """Return a step's overrides and config, with the rows if they come from traces."""
    return pin(step_overrides, compose.load(step_overrides))


def pin(step_overrides: Sequence[str], config: Config) -> tuple[Sequence[str], Config]:
    """Make the rows of `evaluation.traces`, unless an earlier step did, and add their file.

    Raises UserError if no trace makes a row, or the tracking server cannot be used.
    """
    traces = config.evaluation.traces
    if traces is None or traces.rows is not None:
        return step_overrides, config
    requests = served_traces.read("evaluation.traces", traces.experiment, traces.last, traces.since)
    file = str(_store(make_rows(requests, config.evaluation.columns)))
    evaluation = dataclasses.replace(
        config.evaluation, traces=dataclasses.replace(traces, rows=file)
    )
    pinned = overrides.from_arguments([f"evaluation.traces.rows={file}"])
    return [*step_overrides, *pinned], dataclasses.replace(config, evaluation=evaluation)


def make_rows(requests: Iterable[ServedRequest], columns: Columns) -> list[dict[str, Any]]:
    """Return the fields of one row for each different conversation, and say what is left out.

    requests: the newest first. A row's answer is what people gave as the right one, else the served
    one. The rows are in an order that depends on nothing but their content. Raises UserError if
    there are none.
    """
    rows: dict[str, dict[str, Any]] = {}
    skipped: Counter[str] = Counter()
    for request in requests:
        fields, reason = _row(request, columns)
        if fields is None:
            skipped[reason] += 1
            continue
        conversation = json.dumps(fields[columns.messages])
        known = rows.get(conversation)
        if known is not None:
            skipped["repeated"] += 1
        if known is None or (request.expected and known[ORIGIN] == "served"):
            rows[conversation] = fields
    left_out = ", ".join(f"{count} {reason}" for reason, count in sorted(skipped.items()))
    if not rows:
        raise UserError(
            "evaluation.traces: no trace makes a row"
            + (f" ({left_out})" if left_out else ", for there are none in this experiment")
            + ". Serve with serve.tracing=content, and name the experiment of the server with "
            "evaluation.traces.experiment=NAME"
        )
    _report(rows.values(), left_out)
    return sorted(rows.values(), key=lambda fields: hashlib.sha256(_line(fields)).digest())


def _row(request: ServedRequest, columns: Columns) -> tuple[dict[str, Any] | None, str]:
    """Return the fields of a row, or None and the reason."""
    if request.is_error:
        return None, "without an answer"
    if request.adapter is not None:
        return None, "of an adapter"
    if request.messages is None:
        return None, "without messages of text (serve.tracing=usage, tools, or a plain prompt)"
    answers: Sequence[str] = request.expected
    if not answers and request.is_disliked:
        return None, "marked as bad, without a right answer"
    origin = "people" if answers else "served"
    if not answers and request.answer is not None:
        answers = [request.answer]
    if not answers:
        return None, "without an answer"
    fields = {
        columns.messages: request.messages,
        columns.answer: answers[0] if len(answers) == 1 else list(answers),
    }
    problems = [
        *row_checks.question_problems(fields, columns),
        *expected_answers.problems(fields, columns),
    ]
    if problems:
        return None, "that no row can be (" + problems[0].split(":")[0][:60] + ")"
    return fields | {SERVED_BY: request.model_uri, ORIGIN: origin}, ""


def _report(rows: Iterable[Mapping[str, Any]], left_out: str) -> None:
    models = Counter(fields[SERVED_BY] for fields in rows)
    people = sum(fields[ORIGIN] == "people" for fields in rows)
    served = ", ".join(f"{count} by {model_uri}" for model_uri, count in models.most_common())
    messages.info(
        f"traces: {models.total()} rows, served {served}; {people} with an answer from people, the "
        "others with the served one" + (f"; left out: {left_out}" if left_out else "")
    )


def _store(rows: Sequence[Mapping[str, Any]]) -> Path:
    content = b"".join(map(_line, rows))
    key = hashlib.sha256(content).hexdigest()

    def build(folder: Path) -> None:
        (folder / FILE).write_bytes(content)

    return entries.get_or_build("traces", key, build, about={"rows": str(len(rows))}) / FILE


def _line(fields: Mapping[str, Any]) -> bytes:
    return (json.dumps(fields, sort_keys=True) + "\n").encode()
