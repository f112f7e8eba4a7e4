"""Built-in metrics selected by name."""

import pytest

from slmflow.config.compose import load as config
from slmflow.errors import BadArguments
from slmflow.metrics.opt_in import json_valid
from slmflow.metrics.user_metrics import load
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import Evaluation


@pytest.mark.parametrize(
    "text", ["{}", ' \n[1, -0.5e3, "NaN", null, true]\t', '"\\ud83d"', "7", '{"a": {"b": []}}']
)
def test_valid_json_is_accepted(text: str) -> None:
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
def test_invalid_json_is_rejected(text: str) -> None:
    assert json_valid(text, "anything") is False


def test_metric_is_selected_by_name() -> None:
    (metric,) = load(["json_valid"], "Paris.")
    assert (metric.name, metric.is_share) == ("json_valid", True)
    assert metric.column.meaning.startswith("share of answers that are valid JSON")
    assert [metric.score(text, "") for text in ("[]", "[")] == [1.0, 0.0]


def test_unknown_or_repeated_name_is_rejected() -> None:
    with pytest.raises(
        BadArguments, match=r"'json' is not a function: .*built-in metric: json_valid"
    ):
        load(["json"], "")
    with pytest.raises(BadArguments, match="already has a column json_valid"):
        load(["json_valid", "json_valid"], "")


def test_selected_metric_changes_the_key() -> None:
    selected = config(["evaluation.metrics=[json_valid]"])
    assert key_of(Evaluation, selected) != key_of(Evaluation, config([]))
