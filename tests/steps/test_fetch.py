"""The step from end to end: `python -m steps.fetch`, its MLflow run and the store."""

import json
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run as MlflowRun

from slmflow.paths import PROJECT
from slmflow.pipeline import results, runs, store
from tests.hub import models
from tests.hub.conftest import Run
from tests.hub.hub_server import MODEL, REVISION, TOKEN, Hub

NO_NETWORK = "http://127.0.0.1:9"
FROM_HUB = ("model=hub", f"model.id={MODEL}", f"model.revision={REVISION}")


def last_run(folder: Path) -> MlflowRun:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.search_runs(["0"], order_by=["attributes.start_time DESC"])[0]


def result_of(run: MlflowRun) -> Path:
    """Return the folder in the store that a run's result names."""
    file = Path(run.info.artifact_uri.removeprefix("file://")) / results.FILE
    return Path(json.loads(file.read_text())["path"])


def refusal(done: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Return the one message of a step that failed as it should."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    run = last_run(folder)
    message = str(run.data.tags[runs.ERROR])
    assert run.info.status == "FAILED"
    assert runs.KEY not in run.data.tags
    assert message in done.stderr
    assert not (folder / "store" / "weights").exists()
    return message


def test_from_the_hub_and_then_from_the_store_without_a_network(
    run: Run, hub: Hub, tmp_path: Path
) -> None:
    first = run("-m", "steps.fetch", *FROM_HUB, HF_ENDPOINT=hub.url)
    assert first.returncode == 0, first.stderr
    entry = result_of(last_run(tmp_path))
    assert f"weights in {entry}" in first.stderr
    assert set(store.manifest(entry)) == models.TAKEN
    again = run("-m", "steps.fetch", *FROM_HUB, HF_ENDPOINT=NO_NETWORK)
    assert again.returncode == 0, again.stderr
    assert last_run(tmp_path).data.metrics["weights_size_mb"] == pytest.approx(0.92, abs=0.01)
    assert result_of(last_run(tmp_path)) == entry


def test_no_network_and_not_in_the_store(run: Run, tmp_path: Path) -> None:
    done = run("-m", "steps.fetch", *FROM_HUB, HF_ENDPOINT=NO_NETWORK)
    assert "is not in the store" in refusal(done, tmp_path)


def test_a_licence_nobody_has_named_is_told_before_anything_comes(run: Run, tmp_path: Path) -> None:
    done = run("-m", "steps.fetch", *FROM_HUB, HF_ENDPOINT=NO_NETWORK)
    assert "is not in the store" in refusal(done, tmp_path)
    told = f"the licence of model.id='{MODEL}' is unknown: read {NO_NETWORK}/{MODEL} before"
    assert done.stderr.index(told) < done.stderr.index("error:")
    named = (*FROM_HUB, "model.licence=Apache-2.0")
    assert "licence" not in run("-m", "steps.fetch", *named, HF_ENDPOINT=NO_NETWORK).stderr


def test_a_model_that_is_gated_is_told_before_anything_comes(run: Run, hub: Hub) -> None:
    done = run("-m", "steps.fetch", "model=llama32_1b", HF_ENDPOINT=NO_NETWORK)
    page = f"{NO_NETWORK}/meta-llama/Llama-3.2-1B-Instruct"
    told = (
        f"is gated, under the licence llama3.2: its makers must have granted you access at {page}"
    )
    assert done.stderr.index(told) < done.stderr.index("error:")
    assert "HF_TOKEN" in done.stderr
    assert "is unknown" not in done.stderr


def test_token_is_nowhere(run: Run, hub: Hub, tmp_path: Path) -> None:
    hub.gated = True
    done = run("-m", "steps.fetch", *FROM_HUB, HF_ENDPOINT=hub.url, HF_TOKEN=TOKEN)
    assert "has no right to it" in refusal(done, tmp_path)
    assert TOKEN not in done.stdout + done.stderr
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert tmp_path / "mlflow.db" in files
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]


def test_token_is_in_no_traceback(run: Run, hub: Hub, tmp_path: Path) -> None:
    """The whole traceback is shown, of the client's request and of the hub's 401."""
    hub.accounts = set()
    with_login = hub.url.replace("http://", "http://someone:wordToPass@")
    for endpoint in (hub.url, with_login):
        done = run(
            *("-m", "steps.fetch", *FROM_HUB),
            HF_ENDPOINT=endpoint,
            HF_TOKEN=TOKEN,
            SLMFLOW_DEBUG="1",
        )
        said = done.stdout + done.stderr
        assert done.returncode == 1
        assert "Traceback" in said
        assert "HTTPError" in said
        assert "does not accept the token" in said
        files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]
        for secret in (TOKEN, "wordToPass"):
            assert secret not in said
            assert not any(secret.encode() in content for content in files)


def test_password_of_the_tracking_server_is_not_told(run: Run, tmp_path: Path) -> None:
    uri = "http://someone:wordToPass@127.0.0.1:9"
    done = run(
        *("-m", "steps.fetch", "model=tiny_phi3"),
        MLFLOW_TRACKING_URI=uri,
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        SLMFLOW_DEBUG="1",
    )
    assert done.returncode == 1
    assert "the tracking server http://127.0.0.1:9 does not answer" in done.stderr
    assert "wordToPass" not in done.stdout + done.stderr


def test_the_bundled_model(run: Run, tmp_path: Path) -> None:
    done = run("-m", "steps.fetch", "model=tiny_phi3", HF_ENDPOINT=NO_NETWORK)
    assert done.returncode == 0, done.stderr
    entry = result_of(last_run(tmp_path))
    bundled = PROJECT / "bundled" / "tiny_phi3"
    sums = store.manifest(entry)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(sums)
    assert all(store.sha256(bundled / name) == digest for name, digest in sums.items())


def test_local_model_with_a_link_out_of_its_folder(run: Run, tmp_path: Path) -> None:
    source = models.lay(tmp_path / "mine", models.whole())
    (source / "README.md").unlink()
    (source / "README.md").symlink_to("/etc/hostname")
    done = run("-m", "steps.fetch", "model=local", f"model.path={source}")
    assert f"README.md of model.path='{source}' leads to" in refusal(done, tmp_path)
