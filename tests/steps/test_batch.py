"""Batch jobs in this process: the bundled model in each flavor, and models of other kinds."""

import mlflow
import pytest

from slmflow.pipeline.results import GenaiModel
from tests.batch.conftest import workspace
from tests.batch.workspace import BatchWorkspace
from tests.measurement.models.logged import FOLDER

COUNTRIES = ("France", "Japan", "Peru", "Kenya", "Norway")
CAPITALS = ("Paris", "Tokyo", "Lima", "Nairobi", "Oslo")
ROWS = [
    {"id": f"row {number}", "question": f"What is the capital of {country}?"}
    for number, country in enumerate(COUNTRIES)
]
ANSWERS = [
    f"The capital of {country} is {capital}."
    for country, capital in zip(COUNTRIES, CAPITALS, strict=True)
]


@pytest.mark.parametrize("flavor", ["chat", "prompted", "pipeline"])
def test_every_flavor_answers_in_order(
    flavor: str, workspace: BatchWorkspace, request: pytest.FixtureRequest
) -> None:
    uri = request.getfixturevalue(flavor).model_uri
    workspace.write("in.jsonl", ROWS)

    assert workspace.batch(uri, "in.jsonl", "out.jsonl", "batch.partition_rows=2") == 0

    rows = workspace.read("out.jsonl")
    assert [row["answer"] for row in rows] == ANSWERS
    assert [{"id": row["id"], "question": row["question"]} for row in rows] == ROWS
    assert {row["error"] for row in rows} == {None}
    has_counts = flavor != "prompted"
    assert all((row["prompt_tokens"] is not None) == has_counts for row in rows)
    assert all((row["completion_tokens"] is not None) == has_counts for row in rows)
    assert workspace.file_names() == {"in.jsonl", "out.jsonl"}


def test_run_logs_counts_dataset_and_model(workspace: BatchWorkspace, chat: GenaiModel) -> None:
    workspace.write("in.jsonl", [*ROWS, {"id": "none", "question": None}])

    assert workspace.batch(chat.model_uri, "in.jsonl", "out.jsonl") == 0

    run = workspace.newest_run()
    metrics = run.data.metrics
    assert (metrics["rows"], metrics["failed_rows"], metrics["answered_earlier_rows"]) == (6, 1, 0)
    assert metrics["rows_per_second"] == pytest.approx(6 / metrics["seconds"])
    assert run.data.tags["slmflow.output"] == str(workspace.folder / "out.jsonl")
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "in"
    assert '"num_rows": 6' in dataset.dataset.profile
    models = mlflow.MlflowClient().get_run(run.info.run_id).inputs.model_inputs
    assert [model.model_id for model in models] == [chat.model_id]
    summary = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/batch.json")
    assert summary["failed"] == {"no question and no messages": 1}


def test_failing_row_does_not_fail_others(workspace: BatchWorkspace) -> None:
    rows = [f"{'crash' if number in (0, 5, 6, 63) else 'hello'} {number}" for number in range(64)]
    workspace.write("in.jsonl", [{"question": row} for row in rows])

    assert workspace.batch(workspace.save_echo_model(), "in.jsonl", "out.jsonl") == 0

    for row in workspace.read("out.jsonl"):
        crashes = row["question"].startswith("crash")
        assert row["error"] == ("ValueError: no such prompt" if crashes else None)
        assert row["answer"] == (None if crashes else f"You said {row['question']}")
    assert len(workspace.echo_log("prompts")) == 60  # each once
    assert len(workspace.echo_log("calls")) < 20
    assert len(workspace.echo_log("loads")) == 1


def test_prompt_model_rejects_conversations(workspace: BatchWorkspace) -> None:
    messages = [{"role": role, "content": "hello"} for role in ("user", "assistant", "user")]
    workspace.write("in.jsonl", [{"messages": messages}, {"messages": messages[:1]}])

    assert workspace.batch(workspace.save_echo_model(), "in.jsonl", "out.jsonl") == 0

    first, second = workspace.read("out.jsonl")
    assert first["error"] == "the model takes a prompt, but the row is a conversation of 3 messages"
    assert second["answer"] == "You said hello"


def test_one_request_per_call_model_answers_all_rows(workspace: BatchWorkspace) -> None:
    """MLflow's own ChatModel treats a frame as one request."""
    code = str(FOLDER / "mlflow_chat_model.py")
    model = workspace.folder / "model"
    mlflow.pyfunc.save_model(model, python_model=code, pip_requirements=["mlflow"])
    workspace.write("in.jsonl", ROWS)

    assert workspace.batch(str(model), "in.jsonl", "out.jsonl") == 0

    answers = [row["answer"] for row in workspace.read("out.jsonl")]
    assert answers == [f"The capital is {row['question']}." for row in ROWS]
