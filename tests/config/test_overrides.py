"""The adapter from command-line arguments to Hydra overrides."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from slmflow.config import overrides
from slmflow.errors import BadArguments


def _value(override: str) -> object:
    return OverridesParser.create().parse_override(override).value()


def test_pairs_that_mlflow_appends_become_overrides() -> None:
    arguments = ["model=tiny_phi3", "--generation.temperature", "0.2", "--evaluation.limit", "5"]

    assert overrides.from_arguments(arguments) == [
        "model=tiny_phi3",
        "generation.temperature=0.2",
        "evaluation.limit=5",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "/models/it's a (b), {c}",
        "back\\slash\\",
        "quote\\'s",
        "semi; colon $(id) `id` | & > <",
        "line\nbreak\ttab",
        "[unclosed",
        "--looks-like-a-flag",
        "a=b=c",
    ],
)
def test_any_text_passes_as_plain_text(text: str) -> None:
    [override] = overrides.from_arguments(["--model.path", text])

    assert _value(override) == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--generation.temperature"], "has no value"),
        (["tiny_phi3"], "KEY=VALUE"),
        (["+model.extra=1"], "not a config key"),
        (["~model"], "KEY=VALUE"),
        (["--a b", "1"], "not a config key"),
        (["--registry.name", "${oc.env:HF_TOKEN}"], "write it out"),
        (["registry.name=${oc.env:HF_TOKEN}"], "write it out"),
    ],
)
def test_what_is_no_override_is_refused(arguments: list[str], said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        overrides.from_arguments(arguments)


def test_hydra_is_asked_by_its_own_flags() -> None:
    assert overrides.asks_hydra(["target=cpu_int8", "--cfg", "job"])
    assert overrides.asks_hydra(["--cfg=job"])
    assert not overrides.asks_hydra(["target=cpu_int8", "--generation.temperature", "0.2"])
