"""Presets and overrides of a sweep; all problems are reported together."""

import re
from importlib.util import find_spec

import pytest

from slmflow.config import config_keys
from slmflow.config.schema.sweep import Launcher
from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.sweeps import points
from slmflow.sweeps.arguments import parse_arguments

PRESETS = [choice for choice in config_keys.groups()["sweep"] if choice != "default"]


@pytest.mark.parametrize("preset", PRESETS)
def test_preset_has_several_points(preset: str) -> None:
    overrides, config = parse_arguments([f"sweep={preset}"])

    assert config.sweep.over
    assert len(points.grid(overrides)) >= 3


def test_command_line_overrides_preset() -> None:
    overrides, config = parse_arguments(["sweep=targets", "target=cpu_int8,cpu_int4"])

    assert [point.name for point in points.grid(overrides)] == [
        "target=cpu_int8",
        "target=cpu_int4",
    ]
    assert config.target.name == "cpu_int8"
    with pytest.raises(BadArguments, match="nothing to sweep over"):
        parse_arguments(["sweep=targets", "target=cpu_int8"])


def test_key_missing_in_some_points_is_rejected() -> None:
    with pytest.raises(BadArguments, match=r"target=cpu_fp32 has no target\.quantization"):
        parse_arguments(["target=cpu_fp32,cpu_int8", "target.quantization.block_size=64"])


def test_problems_of_all_points_are_reported_together() -> None:
    with pytest.raises(BadArguments) as error:
        parse_arguments(
            ["generation.temperature=0,3,4", "generation.top_p=0.5,0", "sweep.objective='max me'"]
        )

    lines = str(error.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "generation.top_p=0.0",
        "generation.temperature=3.0",
        "generation.temperature=4.0",
        "sweep.objective=max me",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep=tragets", "sweep=tragets: unknown. Did you mean targets?"),
        ("sweep.front='exact_match'", "sweep.front=exact_match: give two goals"),
        (
            "sweep.front='exact_match,mean_kl;n'",
            "sweep.front=exact_match,mean_kl;n: give two goals",
        ),
        ("sweep.front='n,mean_kl;n,kl'", "kl: not a metric"),
        ("sweep.constraints='peak_rss<1'", "sweep.constraints=peak_rss<1: peak_rss: not a metric"),
        ("sweep.workers=0", "sweep.workers=0: must be at least 1"),
        ("sweep.launcher=slrm", r"sweep.launcher: .*expected one of \[serial, joblib"),
        ("sweep.over.target=x", "sweep.over.target: unknown"),
    ],
)
def test_invalid_override_is_rejected(override: str, message: str) -> None:
    with pytest.raises(BadArguments, match=message):
        parse_arguments(["target=cpu_int8,cpu_int4", override])


@pytest.mark.parametrize(("package", "launcher"), [("submitit", "submitit_local"), ("ray", "ray")])
def test_launcher_without_its_package_is_rejected(package: str, launcher: str) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    requirements = f"requirements-{package}.txt"
    assert (PROJECT / requirements).is_file()
    with pytest.raises(BadArguments, match=f"install {re.escape(requirements)} and run with"):
        parse_arguments(["sweep=targets", f"sweep.launcher={launcher}"])


def test_docs_list_every_launcher() -> None:
    page = (PROJECT / "docs" / "sweeps.md").read_text()

    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [each.value for each in Launcher]


def test_objective_accepts_user_metrics() -> None:
    parse_arguments(
        ["target=cpu_int8,cpu_int4", "evaluation.metrics=[math:pow]", "sweep.objective='max pow'"]
    )


def test_goal_on_a_comparison_needs_a_reference() -> None:
    swept = ["target=cpu_int8,cpu_int4", "sweep.objective='max exact_match_difference'"]
    _, config = parse_arguments(swept)
    assert config.sweep.objective == "max exact_match_difference"
    with pytest.raises(BadArguments, match="exact_match_difference compares with the reference"):
        parse_arguments([*swept, "evaluation.reference=none"])


def test_search_for_several_fronts_is_rejected() -> None:
    two = ["target=cpu_int8,cpu_int4", "sweep.front='max n, mean_kl; n, model_size_mb'"]
    parse_arguments(two)
    with pytest.raises(BadArguments, match="searches one front"):
        parse_arguments([*two, "sweep.search=front"])
