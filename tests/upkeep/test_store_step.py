"""`-e store`: list, verify and prune, with a real store and tracking database."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.batch import remote_files
from slmflow.paths import PROJECT
from slmflow.pipeline import manifests, runs, stale_runs, store, store_servers
from slmflow.pipeline.registered_models import TAG_PREFIX
from slmflow.upkeep.inventory import JOURNALS
from tests.fixtures.tracking import create_database
from tests.upkeep.conftest import FilledStore, StoreStep

PRUNE = ("prune", "store.dry_run=false")


def _register(**tags: str) -> None:
    client = MlflowClient()
    if not client.search_registered_models():
        client.create_registered_model("mine")
    prefixed = {f"{TAG_PREFIX}{name}": value for name, value in tags.items()}
    client.create_model_version("mine", "file:///nowhere", tags=prefixed)


def _run_under_way(model: str, lock: str | None = None) -> str:
    tags = {runs.STEP: "main"} | ({stale_runs.LOCK_TAG: lock} if lock else {})
    run = MlflowClient().create_run("0", tags=tags)
    MlflowClient().log_param(run.info.run_id, "model.name", model)
    return str(run.info.run_id)


def test_list_shows_entries_journals_and_total(filled: FilledStore, run_store: StoreStep) -> None:
    filled.add("weights", "a", size=2_000_000, model="tiny_phi3")
    filled.add("onnx", "b", size=1_000_000, model="tiny_phi3", target="cpu_int4")
    filled.add_file("answers", f"{'c' * 64}.jsonl")
    _register(key_fetch="a" * 64)
    _register(key_fetch="a" * 64)

    status, output, errors = run_store("list")

    assert status == 0
    heading, first, second, journals, total = (line.split() for line in output.splitlines())
    assert heading == ["kind", "key", "from", "MB", "last", "used", "used", "by"]
    today = time.strftime("%Y-%m-%d")
    assert first == [
        *("weights", "a" * 12, "tiny_phi3", "2.0", today),
        *("models:/mine/2", "and", "1", "more"),
    ]
    assert second == ["onnx", "b" * 12, "tiny_phi3", "cpu_int4", "1.0", today, "-"]
    assert journals == ["answers", "(1)", "-", "0.0", today, "-"]
    assert total == ["total", "3.0"]
    assert str(filled.home) in errors


def test_unsent_output_of_a_batch_job_is_listed(filled: FilledStore, run_store: StoreStep) -> None:
    output = remote_files.local_output("s3://team/answers.jsonl")
    output.write_bytes(b"a" * 1_000_000)

    listed = run_store("list")[1]

    assert output.is_relative_to(filled.home)
    assert ["batch", "(1)", "-", "1.0"] in [line.split()[:4] for line in listed.splitlines()]


def test_list_is_the_default_action(filled: FilledStore, run_store: StoreStep) -> None:
    assert run_store() == run_store("store.action=list") == run_store("list")


def test_list_starts_no_run(filled: FilledStore, run_store: StoreStep) -> None:
    run_store("list")

    assert MlflowClient().search_runs(["0"]) == []


def test_list_works_without_the_tracking_server(
    filled: FilledStore, run_store: StoreStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled.add("weights", "a", model="tiny_phi3")
    _use_dead_server(monkeypatch)

    status, output, errors = run_store("list")

    assert status == 0
    assert "weights" in output
    assert "what uses the store is not known" in errors


def test_old_entries_are_pruned(filled: FilledStore, run_store: StoreStep) -> None:
    old = filled.add("weights", "a", days=40)
    new = filled.add("weights", "b", days=20)
    journal = filled.add_file("answers", "old.jsonl", days=40)

    status, output, _ = run_store(*PRUNE, "store.older_than_days=30")

    assert status == 0
    assert not old.exists()
    assert not journal.exists()
    assert new.exists()
    assert "a" * 12 in output
    assert "b" * 12 not in output
    assert list((filled.home / "building").iterdir()) == []


def test_dry_run_is_the_default(filled: FilledStore, run_store: StoreStep) -> None:
    old = filled.add("weights", "a", days=40)

    _, output, errors = run_store("prune", "store.older_than_days=30")

    assert old.exists()
    assert "a" * 12 in output
    assert "nothing was removed" in errors


def test_budget_takes_what_was_not_used_longest(filled: FilledStore, run_store: StoreStep) -> None:
    made = [filled.add("onnx", key, days=n, size=1_000_000) for n, key in enumerate("abcd")]
    journal = filled.add_file("answers", "x.jsonl", days=100)

    run_store(*PRUNE, "store.max_size_mb=2.1")

    assert [entry.exists() for entry in made] == [True, True, False, False]
    assert journal.exists()


def test_size_that_cannot_be_reached_is_explained(
    filled: FilledStore, run_store: StoreStep
) -> None:
    filled.add("weights", "a", size=3_000_000, model="mine")
    filled.add("onnx", "b", size=2_000_000, model="mine")
    filled.add("onnx", "c", size=1_000_000, model="other")
    filled.add_file("answers", "x.jsonl", size=100_000)
    _register(key_fetch="a" * 64)
    needed = "3.0 MB needed by registered versions or runs under way"

    for dry_run in ("true", "false"):
        arguments = ("prune", "store.max_size_mb=1.5", f"store.dry_run={dry_run}")
        _, _, narrowed = run_store(*arguments, "store.model=mine")
        assert f"cannot be reached: 4.1 MB stay ({needed}; 1.1 MB not chosen by" in narrowed
    _, _, errors = run_store(*PRUNE, "store.max_size_mb=1.5")
    assert "store.max_size_mb=1.5 cannot be reached: 3.1 MB stay" in errors
    assert f"({needed}; 0.1 MB journals of measurements)" in errors
    assert "cannot be reached" not in run_store(*PRUNE, "store.max_size_mb=3.2")[2]


def test_one_model_is_pruned(filled: FilledStore, run_store: StoreStep) -> None:
    mine, other = (
        [filled.add("weights", key, model=model)]
        + [filled.add_file(kind, f"{key}.jsonl", model=model) for kind in JOURNALS]
        for key, model in (("a", "mine"), ("b", "other"))
    )
    of_both = filled.add_file("timings", "c.jsonl", model="mine, other")

    _, listed, _ = run_store("list", "store.model=mine")
    run_store(*PRUNE, "store.model=mine")

    assert [line.split()[0] for line in listed.splitlines()[1:-1]] == ["weights", *sorted(JOURNALS)]
    assert not any(path.exists() for path in mine)
    assert all(path.exists() for path in (*other, of_both))


def test_journals_are_listed_by_model(filled: FilledStore, run_store: StoreStep) -> None:
    for key, model in (("a", "mine"), ("b", "mine"), ("c", "other"), ("d", ""), ("e", "no\x1b[1m")):
        filled.add_file("answers", f"{key}.jsonl", model=model)

    _, output, _ = run_store("list")

    rows = [line.split()[:3] for line in output.splitlines()[1:-1]]
    assert rows == [["answers", "(2)", name] for name in ("-", "mine")] + [
        ["answers", "(1)", "other"]
    ]


@pytest.mark.parametrize("step", ["fetch", "convert"])
def test_entry_of_a_version_stays(filled: FilledStore, run_store: StoreStep, step: str) -> None:
    kind = {"fetch": "weights", "convert": "onnx"}[step]
    needed, other = filled.add(kind, "a", days=99), filled.add(kind, "b", days=99)
    _register(**{f"key_{step}": "a" * 64})

    _, _, errors = run_store(*PRUNE, "store.older_than_days=1")

    assert (needed.exists(), other.exists()) == (True, False)
    assert f"{kind}/{'a' * 12} stays: used by models:/mine/1" in errors


def test_entries_of_a_run_under_way_stay(filled: FilledStore, run_store: StoreStep) -> None:
    mine, other = (filled.add("weights", k, days=9, model=m) for k, m in ("am", "bo"))
    unknown = filled.add("weights", "c", days=9)
    with stale_runs.hold_run_lock() as tag:
        run_id = _run_under_way("m", tag[stale_runs.LOCK_TAG])
        _, _, errors = run_store(*PRUNE, "store.older_than_days=1")

    assert [entry.exists() for entry in (mine, other, unknown)] == [True, False, True]
    assert f"stays: used by run {run_id}" in errors
    # The process has ended, although the run is RUNNING.
    run_store(*PRUNE, "store.older_than_days=1")
    assert not mine.exists()


def test_run_of_another_machine_counts_as_alive(filled: FilledStore, run_store: StoreStep) -> None:
    entry = filled.add("weights", "a", days=9, model="m")
    _run_under_way("m", "another-machine:/store/locks/run-1.lock")

    run_store(*PRUNE, "store.older_than_days=1")

    assert entry.exists()


def test_entry_being_built_stays(filled: FilledStore, run_store: StoreStep) -> None:
    entry = filled.add("onnx", "a", days=9)

    with store.lock(f"onnx-{'a' * 64}"):
        _, _, errors = run_store(*PRUNE, "store.older_than_days=1")

    assert entry.exists()
    assert "stays: it is in use" in errors


def _use_dead_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri("http://127.0.0.1:9")


def test_nothing_is_pruned_without_the_tracking_server(
    filled: FilledStore, run_store: StoreStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = filled.add("weights", "a", days=99)
    _use_dead_server(monkeypatch)

    status, _, errors = run_store(*PRUNE, "store.older_than_days=1")

    assert status == 1
    assert entry.exists()
    assert "http://127.0.0.1:9 does not answer" in errors


def test_version_on_another_users_server_is_kept(
    filled: FilledStore, run_store: StoreStep, tmp_path: Path
) -> None:
    """The other user's server is known from the time when its runs used the store."""
    entry = filled.add("weights", "a", days=99)
    before = mlflow.get_tracking_uri()
    other = tmp_path / "other"
    other.mkdir()
    mlflow.set_tracking_uri(create_database(other))
    store_servers.note()
    _register(key_fetch="a" * 64)
    mlflow.set_tracking_uri(before)

    _, _, errors = run_store(*PRUNE, "store.older_than_days=1")

    assert entry.exists()
    assert "stays: used by models:/mine/1" in errors
    # A server that no longer exists needs nothing.
    shutil.rmtree(other)
    run_store(*PRUNE, "store.older_than_days=1")
    assert not entry.exists()


def test_unreachable_server_of_another_user_stops_pruning(
    filled: FilledStore, run_store: StoreStep, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = filled.add("weights", "a", days=99)
    before = mlflow.get_tracking_uri()
    _use_dead_server(monkeypatch)
    store_servers.note()
    mlflow.set_tracking_uri(before)

    status, _, errors = run_store(*PRUNE, "store.older_than_days=1")

    assert status == 1
    assert entry.exists()
    assert "http://127.0.0.1:9, whose runs use the store too, cannot be asked" in errors


def test_noted_server_has_no_password(filled: FilledStore) -> None:
    mlflow.set_tracking_uri("http://user:wordToPass@127.0.0.1:9")

    store_servers.note()

    [file] = (filled.home / "servers").iterdir()
    assert json.loads(file.read_text())["tracking"] == "http://127.0.0.1:9"


@pytest.mark.parametrize("place", ["entry", "kind", "journal", "inside", "key"])
def test_links_are_not_followed(
    filled: FilledStore, run_store: StoreStep, tmp_path: Path, place: str
) -> None:
    """Whoever may write to the store cannot make another user delete files outside."""
    entry = filled.add("weights", "a", days=9)
    outside = tmp_path / "outside" / ("b" * 64)
    outside.mkdir(parents=True)
    (outside / "precious.txt").write_text("mine")
    (outside / store.MANIFEST).write_text('{"files": []}')
    os.utime(outside / store.MANIFEST, (0, 0))
    link, target = {
        "entry": (filled.home / "weights" / ("b" * 64), outside),
        "kind": (filled.home / "onnx", outside.parent),
        "journal": (filled.home / "answers", outside.parent),
        "inside": (entry / "link", outside),
        "key": (filled.home / "downloads" / "x", outside),
    }[place]
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(target)
    os.utime(entry / store.MANIFEST, (0, 0))

    status, output, _ = run_store(*PRUNE, "store.older_than_days=1")

    assert status == 0
    assert (outside / "precious.txt").read_text() == "mine"
    assert not entry.exists()
    assert "b" * 12 not in output


def test_verify_finds_a_flipped_byte(filled: FilledStore, run_store: StoreStep) -> None:
    entry = filled.add("weights", "a", size=5000)
    filled.add("weights", "b")
    file = entry / "data"
    status = file.stat()
    with file.open("r+b") as stream:
        first = stream.read(1)
        stream.seek(0)
        stream.write(bytes([first[0] ^ 1]))
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    code, _, errors = run_store("verify")

    assert code == 1
    assert "1 of 2 entries of the store are damaged" in errors
    assert f"{file} differs from its manifest" in errors
    # From now on the steps do not use it either.
    with pytest.raises(manifests.BrokenEntry):
        manifests.verify(entry)


def test_verify_says_that_all_is_well(filled: FilledStore, run_store: StoreStep) -> None:
    filled.add("weights", "a")

    status, _, errors = run_store("verify")

    assert status == 0
    assert "all 1 entries of the store are as they were built" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["prune"], "store.action=prune: say what may go"),
        (["prune", "store.older_than_days=-1"], "store.older_than_days=-1"),
        (["prune", "store.max_size_mb=nan"], "store.max_size_mb=nan"),
        (["delete"], "'delete' is not an override"),
        (["store.action=delete"], "delete"),
    ],
)
def test_bad_arguments_are_named(run_store: StoreStep, arguments: list[str], message: str) -> None:
    status, _, errors = run_store(*arguments)

    assert status == 2
    assert message in errors


def test_empty_store_is_listed(run_store: StoreStep) -> None:
    status, output, _ = run_store("list")

    assert status == 0
    assert output.split()[-2:] == ["total", "0.0"]


@pytest.mark.long
def test_project_runs_the_step(tracking: str, tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("mlflow"), "run", PROJECT, "-e", "store"]
    options = ["--env-manager", "local", "-P", "action=prune", "-P", "store.older_than_days=30"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"

    done = subprocess.run(
        [*command, *options], env=os.environ | {"PATH": path}, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert "nothing was removed" in done.stderr
