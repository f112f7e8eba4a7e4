"""What is read from the command line, with presets; all that is wrong is said at once."""

import re
from importlib.util import find_spec

import pytest
import yaml

from slmflow.config import compose as configs
from slmflow.config.schema.sweep import Launcher
from slmflow.errors import BadArguments
from slmflow.paths import PROJECT
from slmflow.sweeps import points
from slmflow.sweeps.arguments import read

PRESETS = [choice for choice in configs.groups()["sweep"] if choice != "default"]


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_swept(preset: str) -> None:
    overrides, config = read([f"sweep={preset}"])

    assert config.sweep.over
    assert len(points.read(overrides)) >= 3


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_swept_by_mlflow_run(preset: str) -> None:
    """It gives each parameter of the entry point, also where the user does not."""
    entry = yaml.safe_load((PROJECT / "MLproject").read_text())["entry_points"]["sweep"]
    given = {name: each["default"] for name, each in entry["parameters"].items()}

    overrides, _ = read([f"{name}={value}" for name, value in (given | {"sweep": preset}).items()])

    assert len(points.read(overrides)) >= 3


def test_the_command_line_wins_over_the_preset() -> None:
    overrides, config = read(["sweep=targets", "target=cpu_int8,cpu_int4"])

    assert [point.name for point in points.read(overrides)] == [
        "target=cpu_int8",
        "target=cpu_int4",
    ]
    assert config.target.name == "cpu_int8"


def test_a_key_that_only_some_points_have_is_refused() -> None:
    with pytest.raises(BadArguments, match=r"target=cpu_fp32 has no target\.quantization"):
        read(["target=cpu_fp32,cpu_int8", "target.quantization.block_size=64"])


def test_all_problems_of_all_points_come_in_one_message() -> None:
    with pytest.raises(BadArguments) as refusal:
        read(["generation.temperature=0,3,4", "generation.top_p=0.5,0", "sweep.objective='max me'"])

    lines = str(refusal.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "generation.top_p=0.0",
        "generation.temperature=3.0",
        "generation.temperature=4.0",
        "sweep.objective=max me",
    ]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("sweep=tragets", "sweep=tragets: unknown. Did you mean targets?"),
        ("sweep.front='exact_match'", "sweep.front=exact_match: give two goals"),
        ("sweep.constraints='peak_rss<1'", "sweep.constraints=peak_rss<1: peak_rss: not a figure"),
        ("sweep.workers=0", "sweep.workers=0: must be at least 1"),
        ("sweep.launcher=slrm", r"sweep.launcher: .*expected one of \[serial, joblib"),
        ("sweep.over.target=x", "sweep.over.target: unknown"),
    ],
)
def test_what_cannot_be_used_is_refused(override: str, said: str) -> None:
    with pytest.raises(BadArguments, match=said):
        read(["target=cpu_int8,cpu_int4", override])


@pytest.mark.parametrize(("package", "launcher"), [("submitit", "submitit_local"), ("ray", "ray")])
def test_a_launcher_that_is_not_installed_is_refused_before_any_run(
    package: str, launcher: str
) -> None:
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed")
    requirements = f"requirements-{package}.txt"
    assert (PROJECT / requirements).is_file()
    with pytest.raises(BadArguments, match=f"install {re.escape(requirements)} and run with"):
        read(["sweep=targets", f"sweep.launcher={launcher}"])


def test_the_page_on_sweeps_has_every_launcher_and_its_pictures() -> None:
    docs = PROJECT / "docs"
    page = (docs / "sweeps.md").read_text()

    assert re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE) == [each.value for each in Launcher]
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", page)
    assert pictures
    assert all((docs / picture).is_file() for picture in pictures)


def test_goals_may_name_metrics_of_the_users_own() -> None:
    read(["target=cpu_int8,cpu_int4", "evaluation.metrics=[math:pow]", "sweep.objective='max pow'"])
