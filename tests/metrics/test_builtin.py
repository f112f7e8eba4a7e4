"""Metrics that are asked for by name."""

import pytest

from slmflow.config.compose import load as config
from slmflow.errors import BadArguments
from slmflow.metrics.builtin import BUILT_IN, json_valid
from slmflow.metrics.model_metrics import COLUMNS
from slmflow.metrics.user_metrics import load
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Evaluation


@pytest.mark.parametrize(
    "text", ["{}", ' \n[1, -0.5e3, "NaN", null, true]\t', '"\\ud83d"', "7", '{"a": {"b": []}}']
)
def test_json(text: str) -> None:
    assert json_valid(text, "anything") is True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{} {}",
        "{'a': 1}",
        "[1,]",
        "NaN",
        '{"a": -Infinity}',
        "[Infinity]",
        "01",
        '"\t"',
        "\u00a0{}",
        "[" * 100_000,
        "```json\n{}\n```",
    ],
)
def test_no_json(text: str) -> None:
    assert json_valid(text, "anything") is False


def test_it_is_asked_for_by_name() -> None:
    (metric,) = load(["json_valid"], COLUMNS, "Paris.")
    assert (metric.name, metric.share) == ("json_valid", True)
    assert metric.meaning.startswith("answers that are JSON")
    assert [metric.score(text, "") for text in ("[]", "[")] == [1.0, 0.0]


@pytest.mark.parametrize("name", BUILT_IN)
def test_no_name_is_taken_and_each_says_what_it_is(name: str) -> None:
    assert load([name], COLUMNS, "")[0].meaning != f"mean of {name}"


def test_an_unknown_name_is_refused_with_those_there_are() -> None:
    with pytest.raises(BadArguments, match=r"'json' names no function: .*built in: json_valid"):
        load(["json"], COLUMNS, "")
    with pytest.raises(BadArguments, match="a column json_valid already"):
        load(["json_valid", "json_valid"], COLUMNS, "")


def test_it_is_part_of_the_key() -> None:
    asked = config(["evaluation.metrics=[json_valid]"])
    assert key_of(Evaluation, asked) != key_of(Evaluation, config([]))
