"""A file answered in this process, by the bundled model in each of its flavors."""

from typing import Any

import pytest

from tests.batch.jobs import Place

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


def _model(name: str, request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(name)


@pytest.mark.parametrize("flavor", ["chat", "prompted", "pipeline"])
def test_every_flavor_answers_in_order(
    flavor: str, place: Place, request: pytest.FixtureRequest
) -> None:
    model = _model(flavor, request)
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
