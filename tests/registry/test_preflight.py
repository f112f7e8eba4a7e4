"""What is refused before any work."""

import pytest

from slmflow.config import compose as configs
from slmflow.errors import BadArguments
from slmflow.registry import preflight

NO_REFERENCE = "evaluation.reference=none"
NO_DROPS = ("registry.gate.exact_match.max_drop=null", "registry.gate.token_f1.max_drop=null")


def problems(*overrides: str) -> list[str]:
    try:
        preflight.validate_config(configs.load(overrides))
    except BadArguments as error:
        return str(error).splitlines()
    return []


def test_default_config_is_valid(tracking: str) -> None:
    assert problems() == []


def test_drop_against_no_reference_is_refused_with_the_options(tracking: str) -> None:
    assert problems(NO_REFERENCE) == [
        "evaluation.reference=none: nothing to compare with for "
        "registry.gate.exact_match.max_drop, registry.gate.token_f1.max_drop; set "
        "registry.gate.exact_match.max_drop=null registry.gate.token_f1.max_drop=null, and a min "
        "or max instead"
    ]
    assert problems(NO_REFERENCE, *NO_DROPS) == []
    assert problems(NO_REFERENCE, *NO_DROPS, "registry.gate.exact_match.min=0.9") == []


@pytest.mark.parametrize(
    "column", ["agreement", "exact_match_p", "perplexity_ratio_high", "token_f1_difference_low"]
)
def test_gate_on_a_comparison_needs_a_reference(tracking: str, column: str) -> None:
    gate = f"registry.gate.{column}.min=0.5"
    assert problems(gate) == []
    assert problems(NO_REFERENCE, *NO_DROPS, gate) == [
        f"evaluation.reference=none: registry.gate.{column} compares with a reference; leave it out"
    ]


def test_reference_that_is_left_out_cannot_be_registered(tracking: str) -> None:
    assert problems(NO_REFERENCE, *NO_DROPS, "registry.flavor=transformers") == [
        "evaluation.reference=none: there is no transformers flavor to register; leave out "
        "registry.flavor=transformers"
    ]
    assert problems(NO_REFERENCE, *NO_DROPS, "registry.flavor=genai") == []


def test_drop_of_a_difference_is_refused(tracking: str) -> None:
    [problem] = problems("registry.gate.exact_match_difference.max_drop=0.1")
    assert "differences are not stored" in problem
