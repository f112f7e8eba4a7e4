"""A dataset on a fake hub, downloaded with the real client in a separate process."""

import dataclasses
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from slmflow.datasets.rows import Row
from slmflow.pipeline import manifests
from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import MODEL, REVISION, FakeHub

FILE = "data/test.parquet"
QUESTION = {"role": "user", "content": "a?"}
ROWS = [dataclasses.asdict(Row([QUESTION], "A", location="row 1", plain_question="a?"))]
NO_NETWORK = "http://127.0.0.1:9"

ReadRows = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def read_rows(run_python: RunPython, hub: FakeHub) -> ReadRows:
    """Read the rows of a file of the dataset on the hub."""
    parquet = io.BytesIO()
    pd.DataFrame({"question": ["a?"], "answer": ["A"]}).to_parquet(parquet)
    hub.files = {
        "README.md": b"# Questions",
        FILE: parquet.getvalue(),
        "data/train.parquet": b"much more",
        "bad.jsonl": b'{"question": "a?"}',
    }

    def read(file: str = FILE, endpoint: str = hub.url) -> subprocess.CompletedProcess[str]:
        dataset = {"id": MODEL, "revision": REVISION, "file": file}
        overrides = [f"evaluation.dataset.{key}={value}" for key, value in dataset.items()]
        return run_python(
            *("-m", "tests.datasets.read_rows", "evaluation=hub", *overrides),
            HF_ENDPOINT=endpoint,
            HF_HUB_DISABLE_TELEMETRY="1",  # as `steps` does
        )

    return read


def test_only_the_file_is_downloaded_and_stored(
    read_rows: ReadRows, hub: FakeHub, store_folder: Path
) -> None:
    process = read_rows()
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == ROWS
    assert hub.downloaded() == {FILE}
    prefixes = {path.split(MODEL)[0] for _, path, _ in hub.requests}
    assert prefixes == {"/api/datasets/", "/datasets/", f"/cdn/{FILE}"}
    [entry] = (store_folder / "datasets").iterdir()
    assert set(manifests.checksums(entry)) == {FILE}
    assert not list((store_folder / "downloads").iterdir())
    offline = read_rows(endpoint=NO_NETWORK)
    assert json.loads(offline.stdout) == ROWS, offline.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file": "no.csv"}, "evaluation.dataset.file='no.csv': evaluation.dataset.id="),
        ({"file": "bad.jsonl"}, f"bad.jsonl of {MODEL}: a row has"),
        ({"endpoint": NO_NETWORK}, "or use a local file (evaluation.data=FILE)"),
    ],
)
def test_unavailable_rows_are_one_message(
    read_rows: ReadRows, arguments: dict[str, str], message: str
) -> None:
    process = read_rows(**arguments)
    assert process.returncode == 1
    assert process.stderr.count("error:") == 1
    assert message in process.stderr
    assert "Traceback" not in process.stderr
