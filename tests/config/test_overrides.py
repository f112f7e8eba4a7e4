"""The adapter from command-line arguments to Hydra overrides."""

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from slmflow.config import compose as configs
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
@pytest.mark.parametrize("key", ["model.path", "target"])
def test_text_that_hydra_cannot_parse_is_quoted(key: str, text: str) -> None:
    [override] = overrides.from_arguments([f"--{key}", text])

    assert _value(override) == text


def test_null_in_quotes_is_text() -> None:
    config = configs.compose(
        overrides.from_arguments(["evaluation.system=null", "model.licence='null'"])
    )

    assert config.evaluation.system is None
    assert config.model.licence == "null"


def test_other_keys_take_several_values() -> None:
    arguments = ["target=cpu_int8,cpu_int4", "generation.temperature=0.0,1.0", "model.path=a,b"]

    assert overrides.swept_values(overrides.from_arguments(arguments)) == {
        "target": "cpu_int8,cpu_int4",
        "generation.temperature": "0.0,1.0",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
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
def test_malformed_arguments_are_rejected(arguments: list[str], message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        overrides.from_arguments(arguments)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("evaluation.metrics=" + "[" * 3000, "must be a list"),
        ("evaluation.metrics=" + "[" * 300 + "]" * 300, "must be a list"),
        ("evaluation.limit=" + "9" * 5000, "evaluation.limit=9{100}: must be a whole number"),
        ("evaluation.system=???", "'\\?\\?\\?' as a missing value"),
        ("evaluation.system=a\udcff", "is not UTF-8 text"),
        ("evaluation.data=" + "a" * 5000 + ".csv", "there is no file"),
        ("evaluation.data=a\0.csv", "there is no file"),
        ("evaluation.data=/dev/zero", "there is no file"),
    ],
    ids=["unclosed", "nested", "digits", "missing", "bytes", "long path", "NUL", "device"],
)
def test_hostile_values_are_rejected(argument: str, message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        configs.load(overrides.from_arguments([argument]))


@pytest.mark.parametrize(
    ("line", "flags"),
    [
        ("target=cpu_int8 --cfg job", ["--cfg", "job"]),
        ("--resolve --cfg=job", ["--resolve", "--cfg=job"]),
        ("--generation.temperature 0.2 --help", ["--help"]),
        ("--generation.temperature 0.2 target=cpu_int8", []),
        ("--evaluation.system --help --target -h", []),
        ("evaluation.system=--help", []),
    ],
)
def test_hydra_flags_are_split_from_overrides(line: str, flags: list[str]) -> None:
    arguments = line.split()

    assert overrides.has_hydra_flag(arguments) is bool(flags)
    assert overrides.split_hydra_flags(arguments) == (
        flags,
        [argument for argument in arguments if argument not in flags],
    )


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--no-reuse"], ["fresh=[all]"]),
        (["--no-reuse", "true", "target=cpu_int8"], ["fresh=[all]", "target=cpu_int8"]),
        (["--no-reuse", "target=cpu_int8"], ["fresh=[all]", "target=cpu_int8"]),
        (["--no-reuse", "false"], []),
        (["--fresh", "[convert,measure]"], ["fresh=[convert,measure]"]),
        (["--registry.alias", "--no-reuse"], ["registry.alias='--no-reuse'"]),
    ],
)
def test_no_reuse_makes_all_steps_fresh(arguments: list[str], expected: list[str]) -> None:
    """`mlflow run . -P no-reuse=true` appends `--no-reuse true`."""
    assert overrides.from_arguments(arguments) == expected
    flags, others = overrides.split_hydra_flags([*arguments, "--cfg", "job"])
    assert (flags, others) == (["--cfg", "job"], arguments)
