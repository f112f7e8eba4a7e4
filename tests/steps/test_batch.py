"""A file answered in this process: by the bundled model in each of its flavors, and by others."""

import mlflow
import pytest

from slmflow.flavors.genai_result import GenaiModel
from tests.batch.jobs import Place, lines, listening
from tests.measurement.models.logged import HERE

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
    flavor: str, place: Place, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(flavor)
    place.write("in.jsonl", ROWS)

    assert place.batch(model.model_uri, "in.jsonl", "out.jsonl", "batch.partition_rows=2") == 0

    found = place.read("out.jsonl")
    assert [row["answer"] for row in found] == ANSWERS
    assert [{"id": row["id"], "question": row["question"]} for row in found] == ROWS
    assert {row["error"] for row in found} == {None}
    told = flavor != "prompted"
    assert all((row["prompt_tokens"] is not None) == told for row in found)
    assert all((row["completion_tokens"] is not None) == told for row in found)
    assert place.names() == {"in.jsonl", "out.jsonl"}


def test_the_run_tells_what_was_done(place: Place, chat: GenaiModel) -> None:
    place.write("in.jsonl", [*ROWS, {"id": "none", "question": None}])

    assert place.batch(chat.model_uri, "in.jsonl", "out.jsonl") == 0

    run = place.newest()
    metrics = run.data.metrics
    assert (metrics["rows"], metrics["failed_rows"], metrics["answered_earlier_rows"]) == (6, 1, 0)
    assert metrics["rows_per_second"] == pytest.approx(6 / metrics["seconds"])
    assert run.data.tags["slmflow.output"] == str(place.folder / "out.jsonl")
    [dataset] = run.inputs.dataset_inputs
    assert dataset.dataset.name == "in"
    assert '"num_rows": 6' in dataset.dataset.profile
    models = mlflow.MlflowClient().get_run(run.info.run_id).inputs.model_inputs
    assert [each.model_id for each in models] == [chat.model_id]
    told = mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/batch.json")
    assert told["failed"] == {"no question and no messages": 1}


def test_a_row_that_cannot_be_answered_fails_alone(place: Place) -> None:
    rows = [f"{'crash' if number in (0, 5, 6, 63) else 'hear'} {number}" for number in range(64)]
    place.write("in.jsonl", [{"question": row} for row in rows])

    assert place.batch(listening(place.folder), "in.jsonl", "out.jsonl") == 0

    for row in place.read("out.jsonl"):
        crashes = row["question"].startswith("crash")
        assert row["error"] == ("ValueError: no such prompt" if crashes else None)
        assert row["answer"] == (None if crashes else f"You said {row['question']}")
    assert len(lines(place.folder / "asked")) == 60  # each once
    assert len(lines(place.folder / "frames")) < 20
    assert len(lines(place.folder / "loads")) == 1


def test_a_conversation_is_an_error_to_a_prompt_model(place: Place) -> None:
    said = [{"role": role, "content": "hear"} for role in ("user", "assistant", "user")]
    place.write("in.jsonl", [{"messages": said}, {"messages": said[:1]}])

    assert place.batch(listening(place.folder), "in.jsonl", "out.jsonl") == 0

    first, second = place.read("out.jsonl")
    assert first["error"] == "the model takes a prompt, but the row is a conversation of 3 messages"
    assert second["answer"] == "You said hear"


def test_a_model_that_answers_one_row_at_a_time(place: Place) -> None:
    """MLflow's own ChatModel takes a frame as one request."""
    code = str(HERE / "mlflow_chat_model.py")
    model = place.folder / "model"
    mlflow.pyfunc.save_model(model, python_model=code, pip_requirements=["mlflow"])
    place.write("in.jsonl", ROWS)

    assert place.batch(str(model), "in.jsonl", "out.jsonl") == 0

    found = [row["answer"] for row in place.read("out.jsonl")]
    assert found == [f"The capital is {row['question']}." for row in ROWS]
