"""Downloads from a fake hub with the real client, each in a separate process."""

import base64
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from slmflow.pipeline import manifests
from tests.fixtures import tiny_checkpoints
from tests.fixtures.hub import RunPython
from tests.fixtures.hub_server import CDN, FILE, MODEL, REVISION, TOKEN, FakeHub
from tests.hub.conftest import Download

CHUNK = 256 * 1024
NO_HUB = "127.0.0.1:9"
WEIGHTS = "model.safetensors"
WRONG_DIGEST = f"{{name}} of model.id='{MODEL}' has the digest"


def error_message(process: subprocess.CompletedProcess[str], store_folder: Path) -> str:
    """Return the single error message of a failed download; check that it left no files."""
    assert process.returncode == 1, process.stderr
    assert process.stderr.count("error:") == 1
    assert "Traceback" not in process.stderr
    assert TOKEN not in process.stderr + process.stdout
    assert not (store_folder / "weights").exists()
    assert not list((store_folder / "building").iterdir())
    return process.stderr[process.stderr.index("error:") :]


def stored_weights(store_folder: Path) -> bytes:
    return (store_folder / "weights" / "key" / WEIGHTS).read_bytes()


def test_only_checkpoint_files_are_downloaded(
    download: Download, hub: FakeHub, store_folder: Path
) -> None:
    process = download()
    entry = store_folder / "weights" / "key"
    assert process.returncode == 0, process.stderr
    assert set(manifests.checksums(entry)) == tiny_checkpoints.SELECTED == hub.downloaded()
    assert all((entry / name).read_bytes() == hub.files[name] for name in tiny_checkpoints.SELECTED)
    assert not list((store_folder / "downloads").iterdir())


def test_sharded_model_is_downloaded(download: Download, hub: FakeHub, store_folder: Path) -> None:
    hub.files = tiny_checkpoints.sharded()
    assert download().returncode == 0
    assert set(manifests.checksums(store_folder / "weights" / "key")) == set(hub.files)


def test_interrupted_download_resumes_in_another_process(
    download: Download, hub: FakeHub, store_folder: Path
) -> None:
    hub.cut_after[WEIGHTS] = 2 * CHUNK + 1000
    message = error_message(download(), store_folder)
    assert "was interrupted: run the same command again to resume it" in message
    assert download().returncode == 0
    assert hub.ranges(WEIGHTS) == [None, f"bytes={2 * CHUNK}-"]
    assert stored_weights(store_folder) == hub.files[WEIGHTS]
    assert not list((store_folder / "downloads").iterdir())


@pytest.mark.parametrize("fault", ["ignores_ranges", "compresses"])
def test_content_that_cannot_be_resumed_is_replaced(
    download: Download, hub: FakeHub, store_folder: Path, fault: str
) -> None:
    hub.cut_after[WEIGHTS] = 2 * CHUNK
    error_message(download(), store_folder)
    setattr(hub, fault, True)
    if fault == "compresses":
        assert "does not match its listing" in error_message(download(), store_folder)
    process = download()
    assert process.returncode == 0, process.stderr
    assert stored_weights(store_folder) == hub.files[WEIGHTS]


def test_oversized_partial_file_is_replaced(
    download: Download, hub: FakeHub, store_folder: Path
) -> None:
    hub.cut_after[WEIGHTS] = 2 * CHUNK
    error_message(download(), store_folder)
    [partial] = (store_folder / "downloads").rglob(WEIGHTS)
    partial.write_bytes(hub.files[WEIGHTS] + b" ")
    assert download().returncode == 0
    assert stored_weights(store_folder) == hub.files[WEIGHTS]


def test_simultaneous_downloads_share_no_partial_file(
    download: Download, hub: FakeHub, store_folder: Path
) -> None:
    keys = ("first", "second")
    with ThreadPoolExecutor() as threads:
        processes = list(threads.map(lambda key: download(key=key), keys))
    assert [process.returncode for process in processes] == [0, 0], processes
    for key in keys:
        assert (store_folder / "weights" / key / WEIGHTS).read_bytes() == hub.files[WEIGHTS]


@pytest.mark.parametrize("damaged", [False, True])
def test_files_in_the_cache_are_not_downloaded(
    download: Download,
    run_python: RunPython,
    hub: FakeHub,
    store_folder: Path,
    tmp_path: Path,
    damaged: bool,
) -> None:
    """The cache is filled by the real client; a damaged file is downloaded again."""
    fill = f"huggingface_hub.hf_hub_download({MODEL!r}, {WEIGHTS!r}, revision={REVISION!r})"
    filled = run_python("-c", f"import huggingface_hub; {fill}", HF_ENDPOINT=hub.url)
    assert filled.returncode == 0, filled.stderr
    [cached] = (tmp_path / ".cache" / "huggingface" / "hub").rglob(WEIGHTS)
    if damaged:
        cached.resolve().write_bytes(b"\0" * len(hub.files[WEIGHTS]))
    hub.requests.clear()
    assert download().returncode == 0
    assert (WEIGHTS in hub.downloaded()) == damaged
    assert stored_weights(store_folder) == hub.files[WEIGHTS]


def test_gated_model_with_access(download: Download, hub: FakeHub) -> None:
    hub.gated, hub.granted_tokens = True, {TOKEN}
    process = download(HF_TOKEN=TOKEN)
    assert process.returncode == 0
    assert TOKEN not in process.stderr + process.stdout
    assert not hub.cdn_saw_token


def test_logged_details_have_no_credentials(run_python: RunPython, hub: FakeHub) -> None:
    """With the loggers of all libraries at DEBUG, on standard error."""
    run = "import logging, runpy; logging.basicConfig(level='DEBUG'); runpy.run_module('{}', {})"
    module = run.format("tests.hub.download_model", "run_name='__main__'")
    process = run_python(
        *("-c", module, MODEL, REVISION, "key"),
        HF_ENDPOINT=hub.url.replace("://", f"://me:{TOKEN}@"),
        HF_TOKEN=f"{TOKEN}2",
    )
    assert process.returncode == 0, process.stderr
    assert "DEBUG:httpcore" in process.stderr
    assert TOKEN not in process.stderr + process.stdout


@pytest.mark.parametrize(
    ("fault", "arguments", "message"),
    [
        ({}, {"model_id": "someone/a--b"}, "model.id='someone/a--b' is not a hub id"),
        ({}, {"model_id": "someone/else"}, "'someone/else': {url} has no such model, or it is pri"),
        ({}, {"model_id": "someone/else", "HF_TOKEN": TOKEN}, "no such model, or it is private"),
        (
            {},
            {"revision": "f" * 40},
            f"model.revision='{'f' * 40}': model.id='{MODEL}' has no such c",
        ),
        (
            {"gated": True},
            {},
            f"gated, and no token is set: request access at {{url}}/{MODEL}, then",
        ),
        ({"gated": True}, {"HF_TOKEN": TOKEN}, "is gated, and the token (HF_TOKEN or the saved"),
        ({}, {"HF_ENDPOINT": f"http://me:{TOKEN}@{NO_HUB}"}, f"and http://{NO_HUB} cannot be"),
        ({}, {"HF_ENDPOINT": f"http://me:{TOKEN}/@127.0.0.1"}, "HF_ENDPOINT='http://127.0.0.1' is"),
        ({}, {"HF_ENDPOINT": "hub.example"}, "HF_ENDPOINT='hub.example' is not a URL: give one"),
        ({"page": b"<h1>Log in</h1>"}, {}, "the response of {url} is not that of a hub"),
        ({"page": b"[]"}, {}, "the response of {url} is not that of a hub"),
        ({"page": b"{}"}, {}, "the response of {url} is not that of a hub"),
        ({}, {"HTTP_PROXY": f"http://me:{TOKEN}@{NO_HUB}"}, "cannot be reached (ConnectError)"),
        ({}, {"HTTP_PROXY": f"ftp://me:{TOKEN}@{NO_HUB}"}, "is not the URL of a proxy"),
        ({}, {"HTTP_PROXY": f"http://me:{TOKEN}/@{NO_HUB}"}, "is not the URL of a proxy"),
        ({}, {"ALL_PROXY": f"socks5://me:{TOKEN}@{NO_HUB}"}, "names a SOCKS proxy, which needs"),
        (
            {},
            {"HF_OIDC_RESOURCE": "someone"},
            "HF_OIDC_RESOURCE is set, but there is no OIDC token",
        ),
        ({"commit": "e" * 40}, {}, "no such commit"),  # of a branch with a commit's name
        ({"valid_tokens": set()}, {"HF_TOKEN": TOKEN}, "rejects the token (HF_TOKEN"),
        ({}, {"HF_TOKEN": f"“{TOKEN}”"}, "HF_TOKEN contains a character that is invalid"),
        ({}, {"HF_TOKEN": f"{TOKEN}\x01"}, "HF_TOKEN contains a character that is invalid"),
        ({}, {"HF_HUB_OFFLINE": "1"}, "HF_HUB_OFFLINE disables downloads"),
        ({"redirect_loop": FILE}, {}, "redirects in an endless loop"),
        ({"redirect_loop": CDN}, {}, "redirects in an endless loop"),
    ],
)
def test_failure_is_explained(
    download: Download,
    hub: FakeHub,
    store_folder: Path,
    fault: dict[str, Any],
    arguments: dict[str, str],
    message: str,
) -> None:
    vars(hub).update(fault)
    assert message.format(url=hub.url) in error_message(download(**arguments), store_folder)


@pytest.mark.parametrize(
    ("excluded", "proxied"), [("", {"hub.example", "localhost"}), ("localhost", {"hub.example"})]
)
def test_proxy_of_the_environment_is_used(
    download: Download, hub: FakeHub, excluded: str, proxied: set[str]
) -> None:
    login = f"me:{TOKEN}"
    process = download(
        HF_ENDPOINT="http://hub.example",
        HTTP_PROXY=hub.url.replace("://", f"://{login}@"),
        NO_PROXY=excluded,
    )
    assert process.returncode == 0, process.stderr
    credentials = f"Basic {base64.b64encode(login.encode()).decode()}"
    assert hub.proxied == {(host, credentials) for host in proxied}
    assert TOKEN not in process.stderr + process.stdout


def test_networks_of_no_proxy_are_reached_directly(download: Download, hub: FakeHub) -> None:
    process = download(HTTP_PROXY=f"http://{NO_HUB}", NO_PROXY="127.0.0.0/8, localhost")
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize(
    "statuses",
    [[429, 200], [500, 200], [0, 200], [200, 0, 200, 500], [200, 200, 429, 503]],
    ids=["429 with Retry-After", "500", "reset", "reset and 500 at a file", "429 and 503"],
)
def test_temporary_errors_are_retried(
    download: Download, hub: FakeHub, store_folder: Path, statuses: list[int]
) -> None:
    hub.next_statuses = list(statuses)
    process = download()
    assert process.returncode == 0, process.stderr
    assert not hub.next_statuses
    manifest = manifests.checksums(store_folder / "weights" / "key")
    assert set(manifest) == tiny_checkpoints.SELECTED


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (429, "limits the rate of requests (status 429)"),
        (503, "responds with status 503: try again later"),
    ],
)
def test_retries_are_limited(
    download: Download, hub: FakeHub, store_folder: Path, status: int, message: str
) -> None:
    hub.status = status
    assert message in error_message(download(), store_folder)
    assert len(hub.requests) == 4


def test_stalled_transfer_resumes(download: Download, hub: FakeHub, store_folder: Path) -> None:
    hub.stalls = {WEIGHTS}
    process = download(HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert process.returncode == 0, process.stderr
    first, second = hub.ranges(WEIGHTS)
    assert first is None
    assert second is not None
    assert stored_weights(store_folder) == hub.files[WEIGHTS]


def test_wrong_etag_is_ignored(download: Download, hub: FakeHub, store_folder: Path) -> None:
    """Only the content counts: its digest is compared with the commit's listing."""
    hub.etags = {WEIGHTS: "0" * 64, "config.json": "1" * 40}
    process = download()
    assert process.returncode == 0, process.stderr
    entry = store_folder / "weights" / "key"
    assert all((entry / name).read_bytes() == hub.files[name] for name in tiny_checkpoints.SELECTED)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (WEIGHTS, lambda content: content[:-1] + b"\0", WRONG_DIGEST),
        ("tokenizer.json", lambda content: content[:-1] + b"\0", WRONG_DIGEST),
        (WEIGHTS, lambda content: content[: len(content) // 2], "does not match its listing"),
        (WEIGHTS, lambda content: content + b" ", "does not match its listing"),
        ("config.json", lambda content: content[: len(content) // 2], WRONG_DIGEST),
        ("config.json", lambda content: content + b" ", WRONG_DIGEST),
    ],
)
def test_altered_content_is_discarded(
    download: Download,
    hub: FakeHub,
    store_folder: Path,
    name: str,
    change: Callable[[bytes], bytes],
    message: str,
) -> None:
    hub.replaced_content[name] = change(hub.files[name])
    assert message.format(name=name) in error_message(download(), store_folder)
    assert not list(store_folder.rglob(name))
    del hub.replaced_content[name]
    assert download().returncode == 0


def test_model_with_only_pickles(download: Download, hub: FakeHub, store_folder: Path) -> None:
    del hub.files[WEIGHTS]
    message = error_message(download(), store_folder)
    assert "only as pickles (pytorch_model.bin)" in message
    assert not hub.downloaded()


def test_too_little_disk_space(download: Download, hub: FakeHub, store_folder: Path) -> None:
    hub.listed_sizes[WEIGHTS] = 10**18
    message = error_message(download(), store_folder)
    assert "set SLMFLOW_HOME" in message
    assert not hub.downloaded()
