"""Input and output at URIs, with MLflow's own artifact clients."""

from pathlib import Path

import mlflow
import pytest

from slmflow.batch import remote_files
from slmflow.config import compose
from slmflow.errors import BadArguments, UserError
from slmflow.paths import PROJECT, is_uri


@pytest.mark.usefixtures("tracking")
def test_artifact_of_a_run_is_input_and_output(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "Where?"}\n')
    with mlflow.start_run() as run:
        mlflow.log_artifact(str(tmp_path / "rows.jsonl"), "data")
    folder = f"runs:/{run.info.run_id}/data"

    assert (
        remote_files.local_input(f"{folder}/rows.jsonl").read_text() == '{"question": "Where?"}\n'
    )
    output = remote_files.local_output(f"{folder}/answers.jsonl")
    output.write_text("an answer\n")
    remote_files.require_absent(f"{folder}/answers.jsonl")
    remote_files.upload(output, f"{folder}/answers.jsonl")

    assert mlflow.artifacts.load_text(f"{folder}/answers.jsonl") == "an answer\n"
    assert not output.exists()
    with pytest.raises(UserError, match=r"batch.output='runs:/.*' already exists"):
        remote_files.require_absent(f"{folder}/answers.jsonl")
    with pytest.raises(UserError, match=r"batch.input='runs:/.*/none.jsonl': cannot be read"):
        remote_files.local_input(f"{folder}/none.jsonl")


@pytest.mark.usefixtures("tracking")
@pytest.mark.parametrize("uri", ["runs:/0123/rows.jsonl", "file:///nowhere/rows.jsonl"])
def test_missing_input_is_named(uri: str) -> None:
    with pytest.raises(UserError, match=f"batch.input='{uri}': cannot be read"):
        remote_files.local_input(uri)


def test_path_is_no_uri(tmp_path: Path) -> None:
    for path in ("rows.jsonl", "/data/rows.jsonl", "a:b/rows.jsonl", "C:/rows.jsonl"):
        assert not is_uri(path), path
        assert remote_files.local_input(path) == PROJECT / path
    for uri in ("s3://team/rows.csv", "dbfs:/rows.csv", "runs:/1/rows.csv", "abfss://a@b/rows.csv"):
        assert is_uri(uri), uri


@pytest.mark.parametrize("output", ["models:/name/1/a.csv", "https://host/a.csv"])
def test_output_that_cannot_be_written_is_rejected(output: str) -> None:
    with pytest.raises(BadArguments, match="nothing can be written there"):
        compose.load([f"batch.output={output}"])
