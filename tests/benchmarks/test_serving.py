"""The serving benchmark from end to end on a tiny model; no timing is judged."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from benchmarks import serving
from benchmarks.harness import child
from benchmarks.harness.paired_turns import WARM_UPS, alternate
from benchmarks.models import logged
from benchmarks.models.readable_tokens import extended
from benchmarks.server_load import server
from benchmarks.server_load.prompts import NEW_TOKENS, lasting, text
from benchmarks.server_load.requests import Kind, Question, Visit, outcome, plan
from slmflow.errors import BadArguments, UserError
from slmflow.system.child_processes import environment


@pytest.mark.long
def test_all_four_are_measured(tmp_path: Path) -> None:
    line = child.command(
        *("serving", "--shape", "tiny", "--rounds", 1, "--requests", 20),
        *("--output", tmp_path / "out", "--work", tmp_path / "work"),
    )

    done = subprocess.run(line, env=environment(), capture_output=True, text=True)

    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "out" / "tiny.json").read_text())
    page = (tmp_path / "out" / "tiny.md").read_text()
    assert (tmp_path / "out" / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "| overhead: ratio |" in page
    assert str(tmp_path) not in page
    assert measured["overhead"]["predict_s"][0] > measured["overhead"]["bare_s"][0] / 2 > 0
    for batch in measured["batches"].values():
        assert batch["alone_tokens"] == [batch["rows"] * NEW_TOKENS]
        assert len(set(batch["prompt_tokens"])) > 8
    for streams in measured["streams"].values():
        assert [len(one["streams"]) for one in (*streams["alone"], *streams["together"])] == [1, 8]
    load = measured["load"]
    assert {one["status"] for one in load["outcomes"]} == {"200"}
    assert len(load["outcomes"]) == 20
    assert not any(one["anothers"] for one in load["outcomes"])
    assert load["rss_end_bytes"] > 100e6
    assert load["waiting"] == load["running"] == 0


@pytest.mark.parametrize("arguments", [("--rounds", 0), ("--requests", 1)])
def test_too_few_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    argv = ["serving", *arguments, "--output", tmp_path / "out", "--work", tmp_path / "work"]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    with pytest.raises(BadArguments, match="--rounds must be at least 1, and --requests"):
        serving.main()


def test_a_server_that_does_not_start_says_why(tmp_path: Path, tracking: str) -> None:
    with (
        logged.tracking_in(tmp_path / "work"),
        pytest.raises(UserError, match=r"the server ended: serve\.model_uri='models:/m-none'"),
        server.serving("models:/m-none"),
    ):
        pass
    assert mlflow.get_tracking_uri() == tracking


def test_turns_alternate_and_leave_out_the_warm_up() -> None:
    calls = []

    def one(number: int) -> int:
        calls.append(f"one {number}")
        return number

    def other(number: int) -> str:
        calls.append(f"other {number}")
        return str(number)

    assert alternate("turns", one, other, 2) == (
        (WARM_UPS, WARM_UPS + 1),
        (str(WARM_UPS), str(WARM_UPS + 1)),
    )
    assert calls[:4] == ["one 0", "other 0", "other 1", "one 1"]


def test_texts_that_end_early_are_passed_over() -> None:
    asked = []

    def said(candidate: str) -> int:
        asked.append(candidate)
        return NEW_TOKENS if len(asked) > 2 else 3

    short, longer = lasting([4, 9], said)

    assert (len(short.split()), len(longer.split())) == (4, 9)
    assert [*asked[:2], short, longer] == asked
    with pytest.raises(UserError, match="before 64 tokens"):
        lasting([4], lambda _: 1)


def test_a_load_is_mixed_and_the_same_on_every_run() -> None:
    visits = plan(200)

    assert visits == plan(200)
    assert len(visits) == 200
    kinds = [visit.kind for visit in visits]
    assert kinds.count(Kind.left) == 30
    assert kinds.count(Kind.sampled) > 20
    assert kinds.count(Kind.greedy) > 80
    assert all(visit.stream for visit in visits if visit.kind is Kind.left)
    kept = [visit.stream for visit in visits if visit.kind is not Kind.left]
    assert 0.3 < kept.count(True) / len(kept) < 0.7


def test_answers_are_compared_with_those_got_alone() -> None:
    one, other = (Question(text(4, number), 8, None) for number in range(2))
    alone = {one: "a river", other: "a street"}
    whole, left = Visit(one, stream=False), Visit(one, stream=True, leaves_after=1)

    assert outcome(whole, "200", "a river", alone).same
    swapped = outcome(whole, "200", "a street", alone)
    assert (swapped.same, swapped.anothers, swapped.common, swapped.expected) == (False, True, 2, 7)
    flipped = outcome(whole, "200", "a rivet", alone)
    assert (flipped.same, flipped.anothers, flipped.common) == (False, False, 6)
    assert outcome(left, "200", "a ri", alone, ended=False).same
    assert not outcome(left, "200", "a st", alone, ended=False).same


def test_every_id_gets_a_text_and_none_another_number() -> None:
    tokenizer = {
        "model": {"vocab": {"<unk>": 0, "a": 1}, "merges": []},
        "added_tokens": [{"content": "<|end|>", "id": 2}],
    }

    model = extended(tokenizer, 5)["model"]

    assert model == {
        "vocab": {"<unk>": 0, "a": 1, "<|end|>": 2, "▁w3": 3, "▁w4": 4},
        "merges": [],
    }
