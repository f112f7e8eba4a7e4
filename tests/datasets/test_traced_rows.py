"""Evaluation rows from traces that the server's own tracer wrote."""

import json
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import AssessmentSource, AssessmentSourceType

from slmflow.config import compose
from slmflow.config.schema.evaluation import Columns
from slmflow.datasets import rows, traced_rows
from slmflow.errors import BadArguments, UserError
from slmflow.pipeline import keys, served_traces
from slmflow.pipeline.results import Measurements
from slmflow.pipeline.served_traces import ServedRequest
from tests.fixtures.traces import TracedServer

TRACES = ["evaluation=traces"]
HUMAN = AssessmentSource(AssessmentSourceType.HUMAN, "ada")


def _read() -> list[ServedRequest]:
    return served_traces.read("evaluation.traces", None, 100, None)


def _fields() -> dict[str, dict[str, object]]:
    """Return the fields of each row, by the last message."""
    made = traced_rows.make_rows(_read(), Columns())
    return {fields["messages"][-1]["content"]: fields for fields in made}


def test_served_answers_become_rows(tracking: str) -> None:
    server = TracedServer()
    server.answer("Capital of Japan?", "Tokyo")
    conversation = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Capital of "}, {"text": "Peru?"}]},
    ]
    server.answer(conversation, "Lima")
    server.close()

    overrides, config = traced_rows.load_config(TRACES)
    read = {row.question: row for row in rows.read(config)}

    assert read["Capital of Japan?"].answer == "Tokyo"
    assert read["Capital of Peru?"].messages[0] == {"role": "system", "content": "Be brief."}
    assert read["Capital of Peru?"].answer == "Lima"
    assert compose.load(overrides).evaluation.traces == config.evaluation.traces
    assert traced_rows.load_config(overrides)[0] == overrides  # a later step reads no traces


def test_answers_of_people_count_before_the_served_one(tracking: str) -> None:
    server = TracedServer()
    for question in ("first?", "second?", "third?", "fourth?"):
        server.answer(question, "wrong")
    server.close()
    by_question = {request.messages[0]["content"]: request for request in _read()}
    mlflow.log_expectation(
        trace_id=by_question["first?"].trace_id, name="expected_response", value="right"
    )
    mlflow.log_expectation(
        trace_id=by_question["second?"].trace_id, name="mine", value=["right", "correct"]
    )
    for question, name, value in (
        ("third?", "correction", "right"),
        ("third?", "liked", False),
        ("fourth?", "liked", False),
    ):
        trace_id = by_question[question].trace_id
        mlflow.log_feedback(trace_id=trace_id, name=name, value=value, source=HUMAN)

    made = _fields()

    assert {question: fields["answer"] for question, fields in made.items()} == {
        "first?": "right",
        "second?": ["right", "correct"],
        "third?": "right",
    }
    assert {fields["answer_from"] for fields in made.values()} == {"people"}


def test_what_makes_no_row_is_counted(tracking: str, capsys: pytest.CaptureFixture[str]) -> None:
    server, usage = TracedServer(), TracedServer("usage")
    server.answer("Capital of Japan?", "Tokyo")
    server.answer("Capital of Japan?", "Tokyo")
    server.answer("Weather?", "", tools=[{"type": "function"}])
    server.answer("In French?", "oui", adapter="french")
    server.answer([{"role": "assistant", "content": "I"}], "am")
    server.answer("silence?", " ")
    server.fail("too long?")
    usage.answer("secret?", "secret")
    server.close(), usage.close()

    assert list(_fields()) == ["Capital of Japan?"]
    told = " ".join(capsys.readouterr().err.split())
    assert "traces: 1 rows, served 1 by models:/chat/1" in told
    for reason in ("1 repeated", "1 of an adapter", "2 without an answer", "that no row can be"):
        assert reason in told
    assert "2 without messages of text" in told


def test_rows_do_not_depend_on_the_order_of_requests(tracking: str) -> None:
    server = TracedServer()
    for number in range(4):
        server.answer(f"What is {number}?", str(number))
    server.close()
    _, first = traced_rows.load_config(TRACES)
    server = TracedServer()
    for number in reversed(range(4)):
        server.answer(f"What is {number}?", str(number))
    server.close()
    _, again = traced_rows.load_config(TRACES)
    assert first.evaluation.traces == again.evaluation.traces


def test_new_rows_change_the_key_of_measurements(tracking: str, tmp_path: Path) -> None:
    def key() -> str:
        return keys.key_of(Measurements, traced_rows.load_config(TRACES)[1])

    server = TracedServer()
    server.answer("Capital of Japan?", "Tokyo")
    server.close()
    before = key()
    server = TracedServer()
    server.answer("Capital of Japan?", "Tokyo")
    server.close()
    assert key() == before
    server = TracedServer()
    server.answer("Capital of Peru?", "Lima")
    server.close()
    assert key() != before


def test_newest_and_recent_traces_are_chosen(tracking: str) -> None:
    server = TracedServer()
    for number in range(5):
        server.answer(f"What is {number}?", str(number))
    server.close()

    def count(last: int, since: str | None) -> int:
        return len(served_traces.read("drift", None, last, since))

    assert count(3, None) == 3
    assert count(100, "1d") == 5
    assert count(100, "2099-01-01") == 0
    assert served_traces.read("drift", "Default", 100, None, model_id="m-2") == []


def test_no_traces_and_no_experiment_are_explained(tracking: str) -> None:
    with pytest.raises(UserError, match=r"no trace makes a row, for there are none") as error:
        traced_rows.load_config(TRACES)
    assert "serve.tracing=content" in str(error.value)
    with pytest.raises(BadArguments, match=r"evaluation\.traces\.experiment='absent'"):
        traced_rows.load_config([*TRACES, "evaluation.traces.experiment=absent"])


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("evaluation.traces.last=0", "must be 1 to 100000"),
        ("evaluation.traces.since=yesterday", "give a date such as"),
        ("evaluation.traces.rows=/absent.jsonl", "there is no such file"),
        ("evaluation.data=bundled/capitals/evaluation.jsonl", "give one of them"),
    ],
)
def test_invalid_choices_are_rejected(override: str, told: str) -> None:
    with pytest.raises(BadArguments, match=told):
        compose.load([*TRACES, override])


def test_strange_content_is_left_out(tracking: str) -> None:
    server = TracedServer()
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]})
    server.answer([], '[{"choices": [{"message": {"content": "hello"}}]}]', body=body)
    server.answer([{"role": 3, "content": "a"}], "b")
    server.answer([{"role": "user", "content": {"deep": []}}], "b")
    server.answer([{"role": "user", "content": "\ud800"}], "b")
    server.answer("[1, 2]?", "[3]")
    server.close()
    assert {question: fields["answer"] for question, fields in _fields().items()} == {
        "hi": "hello",
        "[1, 2]?": "[3]",
    }
