"""Downloads from a hub on loopback with the real client, each in a process of its own."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from slmflow.pipeline import store
from tests.hub import models
from tests.hub.conftest import Run
from tests.hub.hub_server import CDN, FILE, MODEL, REVISION, TOKEN, Hub

CHUNK = 256 * 1024

Download = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def download(run: Run, hub: Hub) -> Download:
    """Run a download from the hub into the store."""

    def download(
        model_id: str = MODEL, revision: str = REVISION, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        environment.setdefault("HF_ENDPOINT", hub.url)
        return run("-m", "tests.hub.download", model_id, revision, **environment)

    return download


def refusal(done: subprocess.CompletedProcess[str], home: Path) -> str:
    """Return the one message of a download that failed as it should: clean, and without a trace."""
    assert done.returncode == 1, done.stderr
    assert done.stderr.count("error:") == 1
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr + done.stdout
    assert not (home / "weights").exists()
    assert not list((home / "building").iterdir())
    return done.stderr[done.stderr.index("error:") :]


def test_takes_the_files_of_the_model_and_no_others(
    download: Download, hub: Hub, home: Path
) -> None:
    done = download()
    entry = home / "weights" / "key"
    assert done.returncode == 0, done.stderr
    assert set(store.manifest(entry)) == models.TAKEN == hub.downloaded()
    assert all((entry / name).read_bytes() == hub.files[name] for name in models.TAKEN)
    assert not list((home / "downloads").iterdir())


def test_takes_a_model_in_parts(download: Download, hub: Hub, home: Path) -> None:
    hub.files = models.in_parts()
    assert download().returncode == 0
    assert set(store.manifest(home / "weights" / "key")) == set(hub.files)


def test_goes_on_where_an_earlier_process_was_cut_off(
    download: Download, hub: Hub, home: Path
) -> None:
    hub.cut_after["model.safetensors"] = 2 * CHUNK + 1000
    assert "cut off: run the same command again" in refusal(download(), home)
    assert download().returncode == 0
    assert hub.ranges("model.safetensors") == [None, f"bytes={2 * CHUNK}-"]
    entry = home / "weights" / "key"
    assert (entry / "model.safetensors").read_bytes() == hub.files["model.safetensors"]
    assert not list((home / "downloads").iterdir())


def test_gated_without_a_token(download: Download, hub: Hub, home: Path) -> None:
    hub.gated = True
    message = refusal(download(), home)
    assert "is gated, and there is no token" in message
    assert f"{hub.url}/{MODEL}" in message
    assert "set HF_TOKEN" in message


def test_gated_with_a_token_that_lacks_rights(download: Download, hub: Hub, home: Path) -> None:
    hub.gated = True
    message = refusal(download(HF_TOKEN=TOKEN), home)
    assert "is gated, and the token (HF_TOKEN" in message
    assert f"ask for access at {hub.url}/{MODEL}" in message


def test_gated_with_access(download: Download, hub: Hub) -> None:
    hub.gated, hub.readers = True, {TOKEN}
    done = download(HF_TOKEN=TOKEN)
    assert done.returncode == 0
    assert TOKEN not in done.stderr + done.stdout
    assert not hub.cdn_saw_token


def test_token_that_is_not_valid(download: Download, hub: Hub, home: Path) -> None:
    hub.accounts = set()
    assert "does not accept the token (HF_TOKEN" in refusal(download(HF_TOKEN=TOKEN), home)


def test_token_with_a_character_that_cannot_be_sent(download: Download, home: Path) -> None:
    message = refusal(download(HF_TOKEN=f"“{TOKEN}”"), home)
    assert "HF_TOKEN has a character that no token has" in message


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": TOKEN}], ids=["anonymous", "with a token"])
def test_unknown_id(download: Download, home: Path, token: dict[str, str]) -> None:
    message = refusal(download("someone/else", **token), home)
    assert "model.id='someone/else'" in message
    assert "no such model, or it is private" in message


def test_unknown_revision(download: Download, home: Path) -> None:
    message = refusal(download(revision="f" * 40), home)
    assert f"model.revision='{'f' * 40}'" in message
    assert "no such commit" in message


def test_branch_that_bears_the_name_of_a_commit(download: Download, hub: Hub, home: Path) -> None:
    hub.commit = "e" * 40
    assert "no such commit" in refusal(download(), home)


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_content_that_does_not_match_is_thrown_away(
    download: Download, hub: Hub, home: Path, name: str
) -> None:
    hub.sent_instead[name] = hub.files[name][:-1] + b"\0"
    message = refusal(download(), home)
    assert f"{name} of model.id='{MODEL}' came with the digest" in message
    assert not list(home.rglob(name))
    del hub.sent_instead[name]
    assert download().returncode == 0


def test_content_that_is_longer_than_listed(download: Download, hub: Hub, home: Path) -> None:
    hub.sent_instead["model.safetensors"] = hub.files["model.safetensors"] + b"more"
    assert "is not what it lists" in refusal(download(), home)
    del hub.sent_instead["model.safetensors"]
    assert download().returncode == 0


def test_no_network(download: Download, home: Path) -> None:
    message = refusal(download(HF_ENDPOINT="http://someone:secret@127.0.0.1:9"), home)
    assert "is not in the store, and http://127.0.0.1:9 cannot be reached" in message
    assert "secret" not in message


def test_offline_mode(download: Download, home: Path) -> None:
    message = refusal(download(HF_HUB_OFFLINE="1"), home)
    assert "HF_HUB_OFFLINE forbids" in message


def test_hub_out_of_order(download: Download, hub: Hub, home: Path) -> None:
    hub.status = 503
    assert "answers with status 503: try again later" in refusal(download(), home)


@pytest.mark.parametrize(
    "answers",
    [[429, 200], [500, 200], [0, 200], [200, 0, 200, 500], [200, 200, 429, 503]],
    ids=["429 with Retry-After", "500", "reset", "reset and 500 at a file", "429 and 503"],
)
def test_what_passes_is_waited_for(
    download: Download, hub: Hub, home: Path, answers: list[int]
) -> None:
    hub.next = list(answers)
    done = download()
    assert done.returncode == 0, done.stderr
    assert not hub.next
    assert set(store.manifest(home / "weights" / "key")) == models.TAKEN


def test_hub_that_asks_to_wait_for_good(download: Download, hub: Hub, home: Path) -> None:
    hub.status = 429
    assert "answers no more for now (status 429" in refusal(download(), home)
    assert len(hub.requests) == 4


def test_line_that_goes_silent_is_taken_up_again(download: Download, hub: Hub, home: Path) -> None:
    hub.stalls = {"model.safetensors"}
    done = download(HF_HUB_DOWNLOAD_TIMEOUT="1")
    assert done.returncode == 0, done.stderr
    first, second = hub.ranges("model.safetensors")
    assert first is None
    assert second is not None
    entry = home / "weights" / "key"
    assert (entry / "model.safetensors").read_bytes() == hub.files["model.safetensors"]


@pytest.mark.parametrize("circles", [FILE, CDN], ids=["on the hub", "behind it"])
def test_redirects_in_a_circle(
    download: Download, hub: Hub, home: Path, circles: re.Pattern[str]
) -> None:
    hub.circles = circles
    assert "from one address to the next without an end" in refusal(download(), home)


def test_etag_of_another_file(download: Download, hub: Hub, home: Path) -> None:
    """What counts is the content: it is held to the commit's listing."""
    hub.etags = {"model.safetensors": "0" * 64, "config.json": "1" * 40}
    done = download()
    assert done.returncode == 0, done.stderr
    entry = home / "weights" / "key"
    assert all((entry / name).read_bytes() == hub.files[name] for name in models.TAKEN)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
@pytest.mark.parametrize("change", ["truncated", "padded"])
def test_body_of_another_length(
    download: Download, hub: Hub, home: Path, name: str, change: str
) -> None:
    whole = hub.files[name]
    hub.sent_instead[name] = whole[: len(whole) // 2] if change == "truncated" else whole + b" "
    said = refusal(download(), home)
    assert "is not what it lists" in said or f"{name} of model.id='{MODEL}' came with" in said
    del hub.sent_instead[name]
    assert download().returncode == 0


def test_model_that_has_only_pickles(download: Download, hub: Hub, home: Path) -> None:
    del hub.files["model.safetensors"]
    message = refusal(download(), home)
    assert "only as pickles (pytorch_model.bin)" in message
    assert not hub.downloaded()


def test_model_larger_than_the_room_there_is(download: Download, hub: Hub, home: Path) -> None:
    hub.listed_sizes["model.safetensors"] = 10**18
    message = refusal(download(), home)
    assert "set SLMFLOW_HOME" in message
    assert not hub.downloaded()


def test_id_that_the_client_refuses(download: Download, home: Path) -> None:
    assert "is not a hub id" in refusal(download("someone/a--b"), home)
