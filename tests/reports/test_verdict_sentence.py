"""The first line of a report."""

import dataclasses
from typing import Any

import pytest

from slmflow.config.target_advice import Suggestion
from slmflow.metrics.comparison import Comparison
from slmflow.metrics.uncertainty import Difference
from slmflow.metrics.verdict import GOOD_ENOUGH, NOT_GOOD_ENOUGH, TOO_FEW_ROWS, Verdict
from slmflow.reports import verdict_sentence
from tests.metrics.samples import COMPARISON, COMPARISON_ALONE, GENAI, TRANSFORMERS

BOTH = ("exact_match", "perplexity")


def sentence(outcome: str, metrics: tuple[str, ...], **options: Any) -> str:
    differences = GENAI.differences | {"perplexity": Difference(1.00031, 1.0002, 1.0005)}
    verdict = Verdict(outcome, 0.05, metrics, **options)
    genai = dataclasses.replace(GENAI, verdict=verdict, differences=differences)
    return verdict_sentence.render(Comparison("run", "tiny_phi3", (TRANSFORMERS, genai)))


def test_good_model_has_its_differences_with_intervals() -> None:
    assert verdict_sentence.render(COMPARISON) == (
        "genai is good enough to serve: against transformers on 195 rows, exact match changes by "
        "-1.0 points (95 % interval -3.6 to +1.6) and token F1 by -0.4 points (-1.0 to -0.06), "
        "within the margin of 5 points."
    )


def test_tiny_perplexity_difference_is_shown_in_full() -> None:
    """Two perplexities that are both shown as 1.002 differ by so much."""
    assert sentence(GOOD_ENOUGH, BOTH).endswith(
        "and perplexity by +0.03 % (+0.02 to +0.05), within the margin of 5 points or 5 %."
    )


def test_bad_model_has_advice() -> None:
    suggestions = (
        Suggestion("smaller blocks", ("target.quantization.block_size=16",)),
        Suggestion("8 bits", ("target=cpu_int8",)),
    )
    assert sentence(NOT_GOOD_ENOUGH, ("exact_match",), suggestions=suggestions) == (
        "genai is not good enough to serve: against transformers on 195 rows, exact match changes "
        "by -1.0 points (95 % interval -3.6 to +1.6), beyond the margin of 5 points. Try smaller "
        "blocks (target.quantization.block_size=16) or 8 bits (target=cpu_int8)."
    )
    three = (*suggestions, Suggestion("x", ("a=1", "b=2")))
    assert sentence(NOT_GOOD_ENOUGH, BOTH, suggestions=three).endswith(
        "Try smaller blocks (target.quantization.block_size=16), 8 bits (target=cpu_int8) or x "
        "(a=1 b=2)."
    )
    assert sentence(NOT_GOOD_ENOUGH, BOTH).endswith(
        "Its weights are not rounded, so look at the parity of the conversion."
    )


@pytest.mark.parametrize(
    ("rows", "advice"),
    [
        (1234, "It takes about 1,300 rows to tell."),
        (58, "It takes about 58 rows to tell."),
        (None, "More rows will hardly tell, because the difference is as large as the margin."),
    ],
)
def test_few_rows_say_how_many_would_tell(rows: int | None, advice: str) -> None:
    text = sentence(TOO_FEW_ROWS, ("exact_match",), rows_needed=rows)
    assert text.startswith("195 rows are too few to tell whether genai is good enough to serve: ")
    assert text.endswith(
        f"(95 % interval -3.6 to +1.6), partly beyond the margin of 5 points. {advice}"
    )


def test_single_model_is_compared_with_nothing() -> None:
    assert verdict_sentence.render(COMPARISON_ALONE) == (
        "Nothing is compared: models:/chat$/1 is evaluated alone."
    )
    alone = dataclasses.replace(GENAI, verdict=None)
    assert verdict_sentence.render(Comparison("run", "tiny_phi3", (alone,))) == (
        "Nothing is compared: genai is evaluated without a reference (evaluation.reference=none)."
    )


def test_missing_quality_is_said() -> None:
    silent = dataclasses.replace(GENAI, verdict=None, differences={})
    assert verdict_sentence.render(Comparison("run", "m", (TRANSFORMERS, silent))).startswith(
        "Nothing tells whether genai is good enough to serve: "
    )
