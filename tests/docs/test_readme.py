"""README and the docs name options, targets, files and commands that exist."""

import re
import shlex

import pytest

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.paths import PROJECT
from slmflow.sweeps.arguments import parse_arguments
from tests.fixtures.readme import SHOWN, TEXT

_PLACEHOLDERS = {
    "model.revision=COMMIT": f"model.revision={'0' * 40}",
    "model.path=/folder/of/the/model": "model.path=bundled/tiny_phi3",
    "model.template=/my/template.jinja": "model.template=null",
    "model.adapter=/my/adapter": "model.adapter=tests/docs",
    "model.adapters.french=/my/french": "model.adapters.french=tests/docs",
    "evaluation.dataset.revision=COMMIT": f"evaluation.dataset.revision={'0' * 40}",
    "verify.sign_with=/my/key.pem": "verify.sign_with=README.md",
    "verify.public_key=/my/key.pub.pem": "verify.public_key=README.md",
    "evaluation.examples=/my/examples.jsonl": "evaluation.examples=null",
    "evaluation.task_folder=/my/tasks": "evaluation.task_folder=tests/measurement/harness/tasks",
    "calibration.data=/my/texts": "calibration.data=tests/docs",
    "calibration.held_out=/my/other/texts": "calibration.held_out=docs",
    "evaluation.data=/my/questions.jsonl": "evaluation.data=bundled/capitals/evaluation.jsonl",
}
_OPTIONS = sorted(set(re.findall(r"`(-P [^`]+)`", TEXT)))


def test_docs_show_options() -> None:
    assert len(_OPTIONS) >= 30


@pytest.mark.parametrize("options", _OPTIONS)
def test_shown_options_compose(options: str) -> None:
    """As MLflow appends them: `--KEY VALUE` for each `-P KEY=VALUE`."""
    shown = [_PLACEHOLDERS.get(o, o) for o in shlex.split(options) if o != "-P"]
    parsed = overrides.from_arguments(
        [part for option in shown for part in f"--{option}".split("=", 1)]
    )
    if overrides.swept_values(parsed) or parsed[0].startswith("sweep="):
        parse_arguments(parsed)
    else:
        configs.load(parsed)


def test_shown_targets_exist() -> None:
    for target in re.findall(r"`((?:cpu|cuda|dml)_\w+)`", TEXT):
        assert target in configs.groups()["target"]


def test_links_of_readme_exist() -> None:
    """The links between the docs are checked by the strict build of the site."""
    for path in re.findall(r"\]\(([\w./]+)\)", (PROJECT / "README.md").read_text()):
        assert (PROJECT / path).exists(), path


def test_shown_commands_are_of_tested_kinds() -> None:
    kinds = {command.split(" ")[0] for command in SHOWN}
    assert kinds == {
        *("make", "mlflow", "python", "curl"),
        *("lm_eval", "source", "ray", "RAY_ADDRESS=FIRST:6379", "uv", "databricks"),
    }


def test_readme_is_short() -> None:
    assert len((PROJECT / "README.md").read_text().splitlines()) <= 150
