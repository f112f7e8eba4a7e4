"""A dataset of a hub on loopback, with the real client, each time in a process of its own."""

import dataclasses
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from slmflow.datasets.rows import Row
from slmflow.pipeline import store
from tests.hub.conftest import Run
from tests.hub.hub_server import MODEL, REVISION, Hub

FILE = "data/test.parquet"
ROWS = [dataclasses.asdict(Row([{"role": "user", "content": "a?"}], "A"))]

Read = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def read(run: Run, hub: Hub) -> Read:
    """Read the rows of a file of the dataset that the hub has."""
    parquet = io.BytesIO()
    pd.DataFrame({"question": ["a?"], "answer": ["A"]}).to_parquet(parquet)
    hub.files = {
        "README.md": b"# Questions",
        FILE: parquet.getvalue(),
        "data/train.parquet": b"much more",
        "bad.jsonl": b'{"question": "a?"}',
    }

    def read(file: str = FILE, **changed: str) -> subprocess.CompletedProcess[str]:
        environment = {"HF_ENDPOINT": hub.url, **changed}
        dataset = {"id": MODEL, "revision": REVISION, "file": file}
        keys = [f"evaluation.dataset.{key}={value}" for key, value in dataset.items()]
        return run("-m", "tests.datasets.read_rows", "evaluation=hub", *keys, **environment)

    return read


def test_takes_one_file_of_the_dataset_and_keeps_it(read: Read, hub: Hub, home: Path) -> None:
    done = read()
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ROWS
    assert hub.downloaded() == {FILE}
    asked = {path.split(MODEL)[0] for _, path, _ in hub.requests}
    assert asked == {"/api/datasets/", "/datasets/", f"/cdn/{FILE}"}
    [entry] = (home / "datasets").iterdir()
    assert set(store.manifest(entry)) == {FILE}
    assert not list((home / "downloads").iterdir())
    again = read(HF_ENDPOINT="http://127.0.0.1:9")
    assert json.loads(again.stdout) == ROWS, again.stderr


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("data/none.csv", "evaluation.dataset.file='data/none.csv': evaluation.dataset.id="),
        ("bad.jsonl", f"bad.jsonl of {MODEL}: a row has"),
    ],
)
def test_a_file_that_will_not_do(read: Read, file: str, said: str) -> None:
    done = read(file)
    assert done.returncode == 1
    assert done.stderr.count("error:") == 1
    assert said in done.stderr


def test_content_that_does_not_match_is_thrown_away(read: Read, hub: Hub, home: Path) -> None:
    hub.sent_instead[FILE] = hub.files[FILE][:-1] + b"\0"
    done = read()
    assert done.returncode == 1
    assert f"{FILE} of evaluation.dataset.id='{MODEL}' came with the digest" in done.stderr
    assert not list(home.rglob("*.parquet"))


def test_no_network(read: Read) -> None:
    done = read(HF_ENDPOINT="http://127.0.0.1:9")
    assert done.returncode == 1
    assert "or take a file that is here (evaluation.data=FILE)" in done.stderr
    assert "Traceback" not in done.stderr
