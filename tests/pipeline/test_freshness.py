"""Steps that run anew although their results could be reused."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config.compose import load
from slmflow.config.schema.config import STEPS
from slmflow.errors import BadArguments
from slmflow.pipeline import entries, freshness, runs, step_runner
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import FLOW, Result
from slmflow.pipeline.step import Step


@dataclass(frozen=True)
class Value(Result):
    step: ClassVar = "fetch"

    value: int

    def check(self) -> None:
        pass


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("fresh=[]", ""),
        ("fresh=[register]", "register"),
        ("fresh=[measure]", "measure evaluate register"),
        ("measurement.again=true", "measure evaluate register"),
        ("fresh=[log_transformers]", "log_transformers measure evaluate register"),
        ("fresh=[convert,measure]", "convert log_genai measure evaluate register"),
        ("fresh=[fetch]", " ".join(STEPS)),
        ("fresh=[all]", " ".join(STEPS)),
    ],
)
def test_what_is_made_from_a_fresh_result_is_fresh(override: str, names: str) -> None:
    config = load([override])
    fresh = [kind.step for kind in FLOW if freshness.is_made_anew(kind, config)]
    assert sorted(fresh) == sorted(names.split())
    assert freshness.makes_any(config) == bool(names)
    assert [key_of(kind, config) for kind in FLOW] == [key_of(kind, load([])) for kind in FLOW]


def test_unknown_step_is_rejected_with_the_list() -> None:
    with pytest.raises(BadArguments) as raised:
        load(["fresh=[convert,mesure]"])
    assert str(raised.value) == (
        "fresh: 'mesure' is not a step whose result is reused: give some of "
        f"{', '.join(STEPS)}, or all"
    )


def finish(value: int, *arguments: str) -> None:
    nested = mlflow.active_run() is not None
    assert (
        step_runner.run("fetch", lambda _: Value(value), arguments, new_run={"nested": nested}) == 0
    )


@pytest.mark.usefixtures("tracking")
def test_only_a_result_of_this_run_tree_counts() -> None:
    finish(1)
    finish(2, "fresh=[fetch]")  # of another tree
    found = []

    def nested(running: Step) -> None:
        found.append(running.ensure(Value))

    def work(running: Step) -> None:
        found.append(running.find(Value))
        finish(3, "fresh=[fetch]")
        finish_tree = step_runner.run(
            "convert", nested, ["fresh=[fetch]"], new_run={"nested": True}
        )
        assert finish_tree == 0
        found.append(running.find(Value))

    assert step_runner.run("main", work, ["fresh=[fetch]"]) == 0
    assert found == [None, Value(3), Value(3)]
    assert step_runner.run("main", nested, []) == 0
    assert found[-1] == Value(3)  # the newest
    [main] = MlflowClient().search_runs(
        ["0"], f"tags.`{runs.STEP}` = 'main'", order_by=["start_time ASC"], max_results=1
    )
    assert main.data.tags[runs.ROOT] == main.info.run_id


@pytest.mark.usefixtures("tracking")
def test_entry_is_replaced_when_its_successor_is_built(tmp_path: Path) -> None:
    """Readers keep what they have opened, and a failed build keeps the entry."""
    entry = entries.get_or_build(
        "weights", "0" * 64, lambda f: (f / "a").write_text("old") and None
    )

    def fail(folder: Path) -> None:
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        entries.get_or_build("weights", "0" * 64, fail, anew=True)
    assert (entry / "a").read_text() == "old"

    with (entry / "a").open() as opened:

        def build(folder: Path) -> None:
            assert (entry / "a").read_text() == "old"
            (folder / "a").write_text("new")

        assert entries.get_or_build("weights", "0" * 64, build, anew=True) == entry
        assert opened.read() == "old"
    assert (entry / "a").read_text() == "new"
    assert not list(entry.parents[1].glob("building/*"))
