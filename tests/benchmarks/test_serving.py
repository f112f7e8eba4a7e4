"""The serving benchmark end to end on a tiny model, without checks of timings."""

import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from benchmarks.harness.paired_rounds import WARM_UPS, alternate
from benchmarks.models import logged_models
from benchmarks.models.readable_weights import extend_vocabulary
from benchmarks.server_load import server
from benchmarks.server_load.prompts import NEW_TOKENS, full_length_prompts, random_text
from benchmarks.server_load.requests import Kind, Outcome, PlannedRequest, Question, compare, plan
from slmflow.errors import UserError


@pytest.mark.long
def test_benchmark_writes_all_measurements(
    run_benchmark: Callable[..., Path], tmp_path: Path
) -> None:
    arguments = ("--shape", "tiny", "--rounds", 1, "--requests", 20)

    output = run_benchmark("serving", *arguments, "--work", tmp_path / "work")

    measured = json.loads((output / "tiny.json").read_text())
    assert (output / "tiny.png").read_bytes().startswith(b"\x89PNG")
    assert "| overhead: ratio |" in (output / "tiny.md").read_text()
    assert measured["overhead"]["predict_s"][0] > measured["overhead"]["bare_s"][0] / 2 > 0
    for batch in measured["batches"].values():
        assert batch["alone_tokens"] == [batch["rows"] * NEW_TOKENS]
        assert len(set(batch["prompt_tokens"])) > 8
    for streams in measured["streams"].values():
        assert [len(each["streams"]) for each in streams["alone"] + streams["together"]] == [1, 8]
    load = measured["load"]
    assert {each["status"] for each in load["outcomes"]} == {"200"}
    assert len(load["outcomes"]) == 20
    assert not any(each["is_other_baseline"] for each in load["outcomes"])
    assert load["rss_end_bytes"] > 100e6
    assert load["waiting"] == load["running"] == 0


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

    results = alternate("turns", one, other, 2)
    assert results == ((WARM_UPS, WARM_UPS + 1), (str(WARM_UPS), str(WARM_UPS + 1)))
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
    assert swapped == Outcome("greedy", False, "200", False, 2, 7, is_other_baseline=True)
    changed = compare(whole, "200", "a rivet", baselines)
    assert changed == Outcome("greedy", False, "200", False, 6, 7, is_other_baseline=False)
    assert compare(abandoned, "200", "a ri", baselines, is_complete=False).same
    assert not compare(abandoned, "200", "a st", baselines, is_complete=False).same


def test_every_id_gets_a_text_and_none_another_number() -> None:
    tokenizer = {
        "model": {"vocab": {"<unk>": 0, "a": 1}, "merges": []},
        "added_tokens": [{"content": "<|end|>", "id": 2}],
    }

    model = extend_vocabulary(tokenizer, 5)["model"]

    vocabulary = {"<unk>": 0, "a": 1, "<|end|>": 2, "▁w3": 3, "▁w4": 4}
    assert model == {"vocab": vocabulary, "merges": []}
