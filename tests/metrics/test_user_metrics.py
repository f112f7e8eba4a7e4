"""The user's metric functions."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slmflow.config.compose import load as config
from slmflow.errors import BadArguments, UserError
from slmflow.metrics.user_metrics import load

CODE = '''
import numpy as np

def politeness(answer, expected):
    return np.float32("please" in answer)

def polite(answer, expected):
    """
    Whether the answer is polite.

    It says please.
    """
    return "please" in answer

def exact_match(answer, expected):
    return 1

def exact_match_p(answer, expected):
    return 1

def unfinished(answer, expected):
    return None

def infinite(answer, expected):
    return float("nan")

def alone(answer):
    return 1

def picky(answer, expected):
    return 1 / (answer == expected)

number = 3
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on Python's path with a module and a package; forgotten afterwards."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "of_text.py").write_text(CODE)
    (tmp_path / "broken_metric.py").write_text("raise OSError('no such thing')")
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mine", "broken_metric", "other_mine"):
            del sys.modules[name]


def test_function_gives_name_meaning_and_scores(folder: Path) -> None:
    mean, share = load(["mine.of_text:politeness", "mine.of_text:polite"], "Yes.")
    assert mean.name == "politeness"
    assert mean.score("Yes, please.", "Yes.") == 1.0
    assert isinstance(mean.score("", ""), float)
    assert (mean.column.meaning, mean.is_share) == ("mean of mine.of_text:politeness", False)
    assert (share.column.meaning, share.is_share) == ("Whether the answer is polite", True)
    assert share.score("Yes, please.", "Yes.") == 1.0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("nowhere.at_all:f", "cannot be imported .*No module named 'nowhere'.* PYTHONPATH"),
        ("broken_metric:f", "OSError: no such thing"),
        ("mine.of_text:absent", "there is no absent in mine.of_text"),
        ("mine.of_text:number", "number is not a function in mine.of_text"),
        ("mine.of_text:exact_match", "already has a column exact_match; rename"),
        ("mine.of_text:exact_match_p", "already has a column exact_match_p"),
        ("mine.of_text:unfinished", "'Yes.' where 'Yes.' is expected: it returned None; .*number"),
        ("mine.of_text:infinite", "it returned nan; return a finite number"),
        ("mine.of_text:alone", "TypeError: alone.. takes 1 positional argument"),
    ],
)
def test_unusable_function_is_rejected(folder: Path, spec: str, reason: str) -> None:
    with pytest.raises(BadArguments, match=reason):
        load([spec], "Yes.")


def test_all_problems_are_reported_together(folder: Path) -> None:
    specs = ["mine.of_text:absent", "mine.of_text:politeness", "mine.of_text:politeness", "x:y"]
    with pytest.raises(BadArguments) as error:
        load(specs, "Yes.")
    lines = str(error.value).splitlines()
    assert [line.split(" ")[1] for line in lines] == [f"{specs[0]}:", f"{specs[1]}:", "x:y"]


def test_failing_function_is_reported_with_the_texts(folder: Path) -> None:
    (metric,) = load(["mine.of_text:picky"], "Yes.")
    with pytest.raises(UserError, match=r"picky .* 'No.' where 'Yes.' .*: ZeroDivisionError"):
        metric.score("No.", "Yes.")


@pytest.mark.parametrize("name", ["mine", "mine:", "mine:f()", "/mine.py:f", "mine:a.b", "mi ne:f"])
def test_malformed_names_are_rejected(name: str) -> None:
    with pytest.raises(BadArguments, match="is not a function: give module:function"):
        load([name], "Yes.")
    with pytest.raises(BadArguments, match="must be a list"):
        config(["evaluation.metrics=mine:f"])
