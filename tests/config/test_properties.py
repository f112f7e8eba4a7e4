"""Any argument becomes a config value, or is rejected with a message for the user."""

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.config.config_keys import ANY_NAMES, kinds
from slmflow.errors import BadArguments
from tests.fixtures.hostile_text import FEW, SCALAR, SYNTAX, TEXT

KEYS = st.sampled_from(
    [re.sub("|".join(ANY_NAMES), "token_f1", key) for key in kinds()],
)
LITERAL_KEYS = [
    key
    for key, kind in kinds().items()
    if kind.is_literal and "<" not in key and not key.startswith("evaluation.traces.")
]

# What Hydra's grammar takes for a number, a boolean, a list, a dict, a sweep or a function.
NOT_TEXT = st.sampled_from(
    [
        *("", " padded ", "2024_06", "1e3", "0x10", "007", "true", "No", "nan", "Null", "--a"),
        *("--help", "#a", "a,b", "[a]", "{a: b}", "range(3)", "choice(a,b)", "a:b"),
    ]
)
LITERAL = (TEXT | SYNTAX | NOT_TEXT).filter(
    lambda text: not ("${" in text or text in ("???", "null") or overrides._QUOTED.fullmatch(text))
)


@given(texts=st.lists(LITERAL, min_size=len(LITERAL_KEYS), max_size=len(LITERAL_KEYS)))
@FEW
def test_text_and_path_keys_keep_any_text(texts: list[str]) -> None:
    """In the two arguments that MLflow makes of a -P, and as a step passes it to another one."""
    expected = dict(zip(LITERAL_KEYS, texts, strict=True))
    arguments = [part for key, text in expected.items() for part in (f"--{key}", text)]
    passed_on = overrides.from_arguments(arguments)

    assert overrides.from_arguments(passed_on) == passed_on
    values = configs.flatten(configs.compose(["evaluation=hub", *passed_on]))
    assert {key: values[key] for key in LITERAL_KEYS} == expected


@given(
    arguments=st.lists(
        st.tuples(KEYS | TEXT | SYNTAX, TEXT | SYNTAX | SCALAR.map(str)).map("=".join)
        | KEYS.map("--{}".format)
        | TEXT
        | SYNTAX,
        max_size=3,
    )
)
@FEW
def test_any_arguments_are_parsed_or_rejected(arguments: list[str]) -> None:
    try:
        config = configs.load(overrides.from_arguments(arguments))
    except BadArguments as error:
        assert str(error)
    else:
        json.dumps(configs.to_dict(config))
