"""The step from end to end: `python -m steps.fetch`, its MLflow run and the store."""

import json
import subprocess
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.paths import PROJECT
from slmflow.pipeline import digests, manifests, results, runs, store
from slmflow.pipeline.step_runner import run
from steps.fetch import fetch
from tests.fixtures import tiny_checkpoints
from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import MODEL, REVISION, TOKEN, FakeHub
from tests.registry.finished_runs import newest_run
from tests.steps.conftest import ReadErrors

NO_NETWORK = "http://127.0.0.1:9"
FETCH = ("-m", "steps.fetch")
FROM_HUB = (*FETCH, "model=hub", f"model.id={MODEL}", f"model.revision={REVISION}")


def last_run(folder: Path) -> Run:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    return client.search_runs(["0"], order_by=["attributes.start_time DESC"])[0]


def newest_entry(folder: Path) -> Path:
    """Return the store entry that the result of the last run names."""
    run = last_run(folder)
    file = Path(run.info.artifact_uri.removeprefix("file://")) / results.FILE
    return folder / "store" / json.loads(file.read_text())["path"]


def error_message(process: subprocess.CompletedProcess[str], folder: Path) -> str:
    """Return the single error message of a failed step; check its run and the store."""
    assert process.returncode == 1, process.stderr
    assert process.stderr.count("error:") == 1
    assert "Traceback" not in process.stderr
    run = last_run(folder)
    message = str(run.data.tags[runs.ERROR])
    assert run.info.status == "FAILED"
    assert runs.KEY not in run.data.tags
    assert message in process.stderr
    assert not (folder / "store" / "weights").exists()
    return message


def content_of_files(folder: Path) -> list[bytes]:
    return [file.read_bytes() for file in folder.rglob("*") if file.is_file()]


def test_fetched_model_is_reused_without_network(
    run_python: RunPython, hub: FakeHub, tmp_path: Path
) -> None:
    first = run_python(*FROM_HUB, HF_ENDPOINT=hub.url)
    assert first.returncode == 0, first.stderr
    entry = newest_entry(tmp_path)
    assert f"weights in {entry}" in first.stderr
    assert set(manifests.checksums(entry)) == tiny_checkpoints.SELECTED
    only_what_is_fetched = (f"/api/models/{MODEL}/", f"/{MODEL}/resolve/", "/cdn/")  # no telemetry
    assert all(path.startswith(only_what_is_fetched) for _, path, _ in hub.requests)
    second = run_python(*FROM_HUB, HF_ENDPOINT=NO_NETWORK)
    assert second.returncode == 0, second.stderr
    assert last_run(tmp_path).data.metrics["weights_size_mb"] == pytest.approx(0.92, abs=0.01)
    assert newest_entry(tmp_path) == entry


def test_unknown_licence_warns_before_download(run_python: RunPython, tmp_path: Path) -> None:
    process = run_python(*FROM_HUB, HF_ENDPOINT=NO_NETWORK)
    assert "is not in the store" in error_message(process, tmp_path)
    warning = f"the licence of model.id='{MODEL}' is unknown: read {NO_NETWORK}/{MODEL} before"
    assert process.stderr.index(warning) < process.stderr.index("error:")
    process = run_python(*FROM_HUB, "model.licence=Apache-2.0", HF_ENDPOINT=NO_NETWORK)
    assert "licence" not in process.stderr


def test_gated_model_warns_before_download(run_python: RunPython) -> None:
    process = run_python(*FETCH, "model=llama32_1b", HF_ENDPOINT=NO_NETWORK)
    page = f"{NO_NETWORK}/meta-llama/Llama-3.2-1B-Instruct"
    warning = f"is gated, under the licence llama3.2: request access at {page}"
    assert process.stderr.index(warning) < process.stderr.index("error:")
    assert "HF_TOKEN" in process.stderr
    assert "is unknown" not in process.stderr


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HF_TOKEN_PATH"])
def test_token_is_written_nowhere(
    run_python: RunPython,
    hub: FakeHub,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    variable: str,
) -> None:
    """The token of the environment, and one that a login has saved."""
    login = tmp_path_factory.mktemp("login") / "token"
    login.write_text(TOKEN)
    hub.gated = True
    process = run_python(
        *FROM_HUB,
        **{"HF_ENDPOINT": hub.url, variable: TOKEN if variable == "HF_TOKEN" else str(login)},
    )
    assert "has no access to it" in error_message(process, tmp_path)
    assert TOKEN not in process.stdout + process.stderr
    assert (tmp_path / "mlflow.db").is_file()
    assert not any(TOKEN.encode() in content for content in content_of_files(tmp_path))


@pytest.mark.parametrize("login", [pytest.param("", marks=pytest.mark.long), "someone:wordToPass@"])
def test_debug_traceback_hides_credentials(
    run_python: RunPython, hub: FakeHub, tmp_path: Path, login: str
) -> None:
    """The traceback includes the client's request and the hub's 401 response."""
    hub.valid_tokens = set()
    process = run_python(
        *FROM_HUB,
        HF_ENDPOINT=hub.url.replace("http://", f"http://{login}"),
        HF_TOKEN=TOKEN,
        SLMFLOW_DEBUG="1",
    )
    output = process.stdout + process.stderr
    assert process.returncode == 1
    assert "Traceback" in output
    assert "HTTPError" in output
    assert "rejects the token" in output
    for secret in (TOKEN, "wordToPass"):
        assert secret not in output
        assert not any(secret.encode() in content for content in content_of_files(tmp_path))


def test_tracking_server_password_is_hidden(run_python: RunPython) -> None:
    process = run_python(
        *(*FETCH, "model=tiny_phi3"),
        MLFLOW_TRACKING_URI="http://someone:wordToPass@127.0.0.1:9",
        MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
        SLMFLOW_DEBUG="1",
    )
    assert process.returncode == 1
    assert "the tracking server http://127.0.0.1:9 does not answer" in process.stderr
    assert "wordToPass" not in process.stdout + process.stderr


def test_bundled_model_is_copied(tracking: str) -> None:
    assert run("fetch", fetch, ["model=tiny_phi3"]) == 0
    result = runs.load_result(results.Weights, newest_run("fetch").info.run_id)
    manifest = manifests.checksums(result.folder)
    bundled = PROJECT / "bundled" / "tiny_phi3"
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(manifest)
    assert all(digests.sha256(bundled / name) == digest for name, digest in manifest.items())


def test_link_out_of_a_local_model_is_rejected(
    tracking: str, tmp_path: Path, printed: ReadErrors
) -> None:
    source = tiny_checkpoints.write_files(tmp_path / "mine", tiny_checkpoints.single_file())
    (source / "README.md").unlink()
    (source / "README.md").symlink_to("/etc/hostname")
    assert run("fetch", fetch, ["model=local", f"model.path={source}"]) == 1
    message = f"README.md of model.path='{source}' points to"
    run_tags = newest_run("fetch").data.tags
    assert message in run_tags[runs.ERROR]
    assert runs.KEY not in run_tags
    errors = printed()
    assert message in errors
    assert errors.count("error:") == 1
    assert not (store.home() / "weights").exists()


def test_template_becomes_part_of_the_checkpoint(
    run_python: RunPython, hub: FakeHub, tmp_path: Path
) -> None:
    """Of a model from the hub too. A changed template is another result."""
    template = tmp_path / "mine.jinja"
    entries = set()
    for text in ("{{ messages[0].content }}", "Q: {{ messages[0].content }}"):
        template.write_text(text)
        process = run_python(*FROM_HUB, f"model.template={template}", HF_ENDPOINT=hub.url)
        assert process.returncode == 0, process.stderr
        assert f"gets the chat template {template}" in " ".join(process.stderr.split())
        entry = newest_entry(tmp_path)
        assert (entry / "chat_template.jinja").read_text() == text
        entries.add(entry)
    assert len(entries) == 2


def test_template_is_tried_before_the_download(run_python: RunPython, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text("{{ 'a' * 10 ** 12 }}")
    process = run_python(*FROM_HUB, f"model.template={template}", HF_ENDPOINT=NO_NETWORK)
    assert "of size 1e" in error_message(process, tmp_path)


def test_model_without_template_is_announced(run_python: RunPython, hub: FakeHub) -> None:
    process = run_python(*FROM_HUB, HF_ENDPOINT=hub.url)
    assert "it takes prompts and no messages" in " ".join(process.stderr.split())
