"""The serving benchmark end to end on a tiny model, without checks of timings."""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest

from benchmarks import serving
from benchmarks.harness import child_process
from benchmarks.harness.paired_rounds import WARM_UPS, alternate
from benchmarks.models import logged_models
from benchmarks.models.readable_weights import extend_vocabulary
from benchmarks.server_load import server
from benchmarks.server_load.prompts import NEW_TOKENS, full_length_prompts, random_text
from benchmarks.server_load.requests import Kind, PlannedRequest, Question, compare, plan
from slmflow.errors import BadArguments, UserError
from slmflow.system.child_processes import environment


@pytest.mark.long
def test_benchmark_writes_all_measurements(tmp_path: Path) -> None:
    line = child_process.module_command(
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
        assert [len(each["streams"]) for each in (*streams["alone"], *streams["together"])] == [
            1,
            8,
        ]
    load = measured["load"]
    assert {each["status"] for each in load["outcomes"]} == {"200"}
    assert len(load["outcomes"]) == 20
    assert not any(each["is_other_baseline"] for each in load["outcomes"])
    assert load["rss_end_bytes"] > 100e6
    assert load["waiting"] == load["running"] == 0


@pytest.mark.parametrize("arguments", [("--rounds", 0), ("--requests", 1)])
def test_too_few_rounds_or_requests_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[object, ...]
) -> None:
    argv = ["serving", *arguments, "--output", tmp_path / "out", "--work", tmp_path / "work"]
    monkeypatch.setattr(sys, "argv", list(map(str, argv)))
    with pytest.raises(BadArguments, match="--rounds must be at least 1, and --requests"):
        serving.main()


def test_server_that_fails_to_start_reports_why(tmp_path: Path, tracking: str) -> None:
    with (
        logged_models.use_tracking_folder(tmp_path / "work"),
        pytest.raises(UserError, match=r"the server exited: serve\.model_uri='models:/m-none'"),
        server.serving("models:/m-none"),
    ):
        pass
    assert mlflow.get_tracking_uri() == tracking


def test_alternate_omits_warm_up_rounds() -> None:
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


def test_prompts_with_short_completions_are_skipped() -> None:
    candidates = []

    def count_tokens(candidate: str) -> int:
        candidates.append(candidate)
        return NEW_TOKENS if len(candidates) > 2 else 3

    short, longer = full_length_prompts([4, 9], count_tokens)

    assert (len(short.split()), len(longer.split())) == (4, 9)
    assert [*candidates[:2], short, longer] == candidates
    with pytest.raises(UserError, match="before 64 tokens"):
        full_length_prompts([4], lambda _: 1)


def test_load_is_mixed_and_reproducible() -> None:
    requests = plan(200)

    assert requests == plan(200)
    assert len(requests) == 200
    kinds = [request.kind for request in requests]
    assert kinds.count(Kind.abandoned) == 30
    assert kinds.count(Kind.sampled) > 20
    assert kinds.count(Kind.greedy) > 80
    assert all(each.stream for each in requests if each.kind is Kind.abandoned)
    others = [each.stream for each in requests if each.kind is not Kind.abandoned]
    assert 0.3 < others.count(True) / len(others) < 0.7


def test_responses_are_compared_with_baselines() -> None:
    one, other = (Question(random_text(4, number), 8, None) for number in range(2))
    baselines = {one: "a river", other: "a street"}
    whole = PlannedRequest(one, stream=False)
    abandoned = PlannedRequest(one, stream=True, max_pieces=1)

    assert compare(whole, "200", "a river", baselines).same
    swapped = compare(whole, "200", "a street", baselines)
    assert (swapped.same, swapped.is_other_baseline, swapped.common, swapped.expected) == (
        False,
        True,
        2,
        7,
    )
    changed = compare(whole, "200", "a rivet", baselines)
    assert (changed.same, changed.is_other_baseline, changed.common) == (False, False, 6)
    assert compare(abandoned, "200", "a ri", baselines, is_complete=False).same
    assert not compare(abandoned, "200", "a st", baselines, is_complete=False).same


def test_every_id_gets_a_text_and_none_another_number() -> None:
    tokenizer = {
        "model": {"vocab": {"<unk>": 0, "a": 1}, "merges": []},
        "added_tokens": [{"content": "<|end|>", "id": 2}],
    }

    model = extend_vocabulary(tokenizer, 5)["model"]

    assert model == {
        "vocab": {"<unk>": 0, "a": 1, "<|end|>": 2, "▁w3": 3, "▁w4": 4},
        "merges": [],
    }
