"""README's tables name what there is; its commands are run by `test_workflow.py`."""

import re
import shlex

from slmflow.config import compose as configs
from slmflow.config import overrides
from slmflow.paths import PROJECT
from slmflow.sweeps.arguments import read
from tests.fixtures.readme import COMMANDS, TEXT

_MISSING = {
    "model.revision=COMMIT": f"model.revision={'0' * 40}",
    "model.path=/folder/of/the/model": "model.path=bundled/tiny_phi3",
    "evaluation.dataset.revision=COMMIT": f"evaluation.dataset.revision={'0' * 40}",
    "verify.sign_with=/my/key.pem": "verify.sign_with=README.md",
    "verify.public_key=/my/key.pub.pem": "verify.public_key=README.md",
    "evaluation.examples=/my/examples.jsonl": "evaluation.examples=null",
    "evaluation.data=/my/questions.jsonl": "evaluation.data=bundled/capitals/evaluation.jsonl",
}


def test_every_option_that_is_shown_is_one() -> None:
    shown = re.findall(r"`(-P [^`]+)`", TEXT)
    assert len(shown) >= 14
    for options in shown:
        given = [_MISSING.get(o, o) for o in shlex.split(options) if o != "-P"]
        given = overrides.from_arguments(given, configs.TEXTS)
        if overrides.several(given) or given[0].startswith("sweep="):
            read(given)
        else:
            configs.load(given)


def test_the_targets_and_steps_that_are_named_exist() -> None:
    for target in re.findall(r"`((?:cpu|cuda|dml)_\w+)`", TEXT):
        assert target in configs.groups()["target"]
    named = re.search(r"(`fetch`[^|]*?) are\s+entry points", TEXT, re.DOTALL)
    assert named is not None
    for step in re.findall(r"`(\w+)`", named[1]):
        assert (PROJECT / "steps" / f"{step}.py").exists()


def test_the_picture_is_there() -> None:
    for path in re.findall(r"!\[.*?\]\((.*?)\)", TEXT):
        assert (PROJECT / path).is_file()


def test_its_commands_are_of_kinds_that_are_run() -> None:
    kinds = {command.split(" ")[0] for command in COMMANDS}
    assert kinds == {"make", "mlflow", "python", "curl"}
