"""Real models of both flavors, checked as they were logged, and after each kind of tampering."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from slmflow.config import compose as configs
from slmflow.flavors.genai_result import GenaiModel
from slmflow.flavors.log_model import SUMS
from slmflow.flavors.provenance import FILES, LOCK_FILE
from slmflow.flavors.transformers_result import TransformersModel
from slmflow.paths import PROJECT
from slmflow.pipeline import checksums, runs, step, store
from slmflow.pipeline.results import LoggedModel, key_of
from slmflow.verification.findings import State
from slmflow.verification.signatures import SIGNATURE
from steps.verify import verify
from tests.fixtures.bundled_model import FP32
from tests.verification.keys import pair

Verify = Callable[..., int]
QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@pytest.fixture
def verify_at(experiment: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Verify:
    """Run the step on an address, with the store that the models were made in."""
    monkeypatch.setenv("SLMFLOW_HOME", str(home))

    def run(address: str, *arguments: str) -> int:
        arguments = (f"verify.model_uri={address}", *arguments)
        return step.run("verify", verify, arguments, new_run={"experiment_id": experiment})

    return run


@pytest.fixture
def copied(chat: GenaiModel, tmp_path: Path) -> Path:
    """A copy of the GenAI model that a test may alter."""
    return Path(shutil.copytree(folder_of(chat), tmp_path / "model"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    return pair(tmp_path, "mine")


def folder_of(model: LoggedModel) -> Path:
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def findings(experiment: str) -> list[dict[str, str]]:
    """Return what the last run of verify found."""
    kept = mlflow.artifacts.load_dict(f"runs:/{last_run(experiment)}/verification.json")
    found: list[dict[str, str]] = kept["checks"]
    return found


def states(experiment: str) -> dict[str, list[State]]:
    found: dict[str, list[State]] = {}
    for each in findings(experiment):
        found.setdefault(each["check"], []).append(State(each["state"]))
    return found


def told(experiment: str, check: str) -> str:
    return " ".join(each["told"] for each in findings(experiment) if each["check"] == check)


def last_run(experiment: str) -> str:
    query = "tags.`slmflow.step` = 'verify'"
    order = ["attributes.start_time DESC"]
    [run] = MlflowClient().search_runs([experiment], query, order_by=order, max_results=1)
    return str(run.info.run_id)


def error(experiment: str) -> str:
    return str(MlflowClient().get_run(last_run(experiment)).data.tags[runs.ERROR])


def flip(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("flavor", ["chat", "pipeline"])
def test_what_was_logged_holds_also_after_it_was_loaded_where_it_lies(
    request: pytest.FixtureRequest, experiment: str, verify_at: Verify, flavor: str
) -> None:
    model: LoggedModel = request.getfixturevalue(flavor)
    mlflow.pyfunc.load_model(model.model_uri).predict(QUESTION)

    assert verify_at(model.model_uri) == 0

    found = states(experiment)
    assert set(found) == {"files", "sums", "run", "contents", "store", "lock", "signature"}
    assert found["signature"] == [State.unchecked]
    held = [state for check in ("files", "sums", "contents", "store") for state in found[check]]
    assert set(held) == {State.holds}
    assert len(found["store"]) == (2 if flavor == "chat" else 1)


def test_a_model_carries_what_it_is_made_of(chat: GenaiModel, weights: Path, onnx: Path) -> None:
    carried = json.loads((folder_of(chat) / "provenance" / "provenance.json").read_text())

    assert carried["model"] == {
        "source": "bundled",
        "id": None,
        "revision": None,
        "licence": "Apache-2.0",
    }
    config = configs.load(FP32)
    assert carried["keys"]["log_genai"] == key_of(GenaiModel, config)
    assert set(carried["keys"]) == {"fetch", "convert", "log_genai"}
    fetched, converted = carried["sources"]
    assert fetched["files"] == store.manifest(weights)
    assert fetched["entry"] == f"weights/{carried['keys']['fetch']}"
    assert converted["files"] == store.manifest(onnx)
    assert (carried["model_id"], len(carried["run_id"])) == (chat.model_id, 32)
    assert (folder_of(chat) / "provenance" / LOCK_FILE.name).read_bytes() == LOCK_FILE.read_bytes()
    added = sum(file.stat().st_size for file in (folder_of(chat) / "provenance").iterdir())
    assert added < 40_000


def test_one_changed_bit_of_any_file_is_named(
    copied: Path, experiment: str, verify_at: Verify, subtests: pytest.Subtests
) -> None:
    for file in sorted(copied / path for path in checksums.of(copied)):
        with subtests.test(file.name):
            before = file.read_bytes()
            flip(file)
            assert verify_at(str(copied)) == 1
            assert repr(file.relative_to(copied).as_posix()).strip("'") in error(experiment)
            file.write_bytes(before)
    assert verify_at(str(copied)) == 0


def test_what_is_missing_added_and_linked_is_named_at_once(
    chat: GenaiModel, copied: Path, experiment: str, verify_at: Verify, tmp_path: Path
) -> None:
    (copied / "conda.yaml").unlink()
    (copied / "code" / "runtime" / "__pycache__").mkdir()
    (copied / "code" / "runtime" / "__pycache__" / "text.cpython-311.pyc").write_bytes(b"planted")
    elsewhere = (copied / "MLmodel").rename(tmp_path / "elsewhere")
    (copied / "MLmodel").symlink_to(elsewhere)
    (copied / "more").symlink_to(tmp_path, target_is_directory=True)

    assert verify_at(str(copied)) == 1

    refusal = error(experiment)
    assert "missing: 'conda.yaml'" in refusal
    assert "added: 'code/runtime/__pycache__/text.cpython-311.pyc'" in refusal
    assert "changed: 'MLmodel'" in refusal
    assert "added: 'more'" in refusal
    assert f"To make it anew, delete {chat.model_id}" in refusal


def test_sums_that_were_altered_with_the_file_are_not_those_of_the_server(
    copied: Path, experiment: str, verify_at: Verify
) -> None:
    flip(copied / "requirements.txt")
    recorded = json.loads((copied / FILES).read_text())
    recorded["requirements.txt"] = store.sha256(copied / "requirements.txt")
    (copied / FILES).write_text(json.dumps(recorded, indent=1))

    assert verify_at(str(copied)) == 1

    assert states(experiment)["files"] == [State.holds]
    assert states(experiment)["sums"] == [State.differs]
    assert FILES in error(experiment)


def test_a_model_in_the_place_of_another_is_found(
    pipeline: TransformersModel, chat: GenaiModel, experiment: str, verify_at: Verify
) -> None:
    place, other = folder_of(chat), folder_of(pipeline)
    kept = place.rename(place.with_name("kept"))
    try:
        shutil.copytree(other, place)
        assert verify_at(chat.model_uri) == 1
        assert f"it is {pipeline.model_id}" in error(experiment)
    finally:
        shutil.rmtree(place)
        kept.rename(place)


def test_a_flipped_bit_in_the_store_is_named_and_no_store_is_said(
    chat: GenaiModel,
    home: Path,
    experiment: str,
    verify_at: Verify,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(home, tmp_path / "home")
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    [weights] = (tmp_path / "home" / "weights").iterdir()
    flip(weights / "model.safetensors")
    assert verify_at(chat.model_uri) == 1
    assert "changed: 'model.safetensors'" in error(experiment)

    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "nothing"))
    assert verify_at(chat.model_uri) == 0
    assert set(states(experiment)["store"]) == {State.unchecked}


def test_a_server_that_does_not_know_the_model_is_said(
    copied: Path, tracking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model was handed on as a folder."""
    arguments = (f"verify.model_uri={copied}",)
    assert step.run("verify", verify, arguments) == 0
    found = states("0")
    assert found["files"] == [State.holds]
    assert found["sums"] == found["run"] == [State.unchecked]


def test_a_registered_version_holds(chat: GenaiModel, experiment: str, verify_at: Verify) -> None:
    mlflow.register_model(chat.model_uri, "verified")
    mlflow.pyfunc.load_model("models:/verified/1")
    note = folder_of(chat) / "registered_model_meta"  # MLflow's, of the version, among the files
    noted = note.read_text()

    assert verify_at("models:/verified/1") == 0
    assert verify_at(chat.model_uri) == 0

    note.write_text(noted + "more: 1\n")
    assert verify_at(chat.model_uri) == 1
    assert "added: 'registered_model_meta'" in error(experiment)
    note.write_text(noted)


def test_models_of_others_are_refused_with_a_reason(
    tmp_path: Path, experiment: str, verify_at: Verify
) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    assert verify_at(str(tmp_path)) == 1
    assert f"has no {FILES} that can be read" in error(experiment)

    assert verify_at("models:/nobody/1") == 2
    assert "no model can be read there" in error(experiment)


@pytest.mark.parametrize("content", ["{", "[]", '{"sources": [{}]}', '{"MLmodel": 3}', "[" * 10**5])
def test_provenance_that_is_nonsense_ends_in_one_message(
    copied: Path, experiment: str, verify_at: Verify, content: str
) -> None:
    (copied / "provenance" / "provenance.json").write_text(content)
    assert verify_at(str(copied)) == 1
    assert "changed: 'provenance/provenance.json'" in error(experiment)
    (copied / FILES).write_text(content)
    assert verify_at(str(copied)) == 1
    assert f"has no {FILES} that can be read" in error(experiment)


def test_a_signature_holds_for_us_and_for_openssf_model_signing(
    chat: GenaiModel, keys: tuple[Path, Path], experiment: str, verify_at: Verify, tmp_path: Path
) -> None:
    private, public = keys
    assert verify_at(chat.model_uri, f"verify.public_key={public}") == 1
    assert "has no signature that holds:\nsignature: no signature is noted" in error(experiment)
    assert verify_at(chat.model_uri, f"verify.sign_with={private}") == 0
    address = mlflow.get_logged_model(chat.model_id).tags[SIGNATURE]
    assert address == f"runs:/{last_run(experiment)}/model.sig"
    assert verify_at(chat.model_uri) == 0
    assert f"it is {address}" in told(experiment, "signature")

    assert verify_at(chat.model_uri, f"verify.public_key={public}") == 0
    assert states(experiment)["signature"] == [State.holds]
    signature = mlflow.artifacts.download_artifacts(address, dst_path=str(tmp_path))
    theirs = [sys.executable, "-m", "model_signing", "verify", "key", str(folder_of(chat))]
    done = subprocess.run(
        [*theirs, "--signature", signature, "--public_key", str(public)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    everything = [file for file in folder_of(chat).parents[1].rglob("*") if file.is_file()]
    assert not [file for file in everything if private.read_bytes() in file.read_bytes()]


def test_a_signature_names_what_was_altered_with_its_sums(
    chat: GenaiModel,
    copied: Path,
    keys: tuple[Path, Path],
    experiment: str,
    verify_at: Verify,
    tmp_path: Path,
) -> None:
    private, public = keys
    assert verify_at(str(copied), f"verify.sign_with={private}", f"verify.public_key={public}") == 0
    signature = mlflow.artifacts.download_artifacts(
        f"runs:/{last_run(experiment)}/model.sig", dst_path=str(tmp_path)
    )
    given = (f"verify.signature={signature}", f"verify.public_key={public}")
    flip(copied / "requirements.txt")
    recorded = json.loads((copied / FILES).read_text())
    recorded["requirements.txt"] = store.sha256(copied / "requirements.txt")
    (copied / FILES).write_text(json.dumps(recorded, indent=1))
    MlflowClient().delete_logged_model_tag(chat.model_id, SUMS)

    assert verify_at(str(copied), *given) == 1

    assert states(experiment)["files"] == [State.holds]
    assert states(experiment)["sums"] == [State.unchecked]
    changed = f"[\"Hash mismatch for '{FILES}'\", \"Hash mismatch for 'requirements.txt'\"]"
    assert f"signature: Signature mismatch: {changed}" in error(experiment)


def test_only_the_key_of_the_signer_holds(
    chat: GenaiModel,
    keys: tuple[Path, Path],
    experiment: str,
    verify_at: Verify,
    tmp_path: Path,
) -> None:
    private, public = keys
    _, others = pair(tmp_path, "others")
    assert verify_at(chat.model_uri, f"verify.sign_with={private}") == 0
    assert verify_at(chat.model_uri, f"verify.public_key={others}") == 1
    assert "Key mismatch" in error(experiment)
    assert "see that verify.public_key is its signer's" in error(experiment)

    junk = tmp_path / "junk.sig"
    for content in ("", "{}", "[]", '{"mediaType": 3}', "\x00"):
        junk.write_text(content)
        given = (f"verify.signature={junk}", f"verify.public_key={public}")
        assert verify_at(chat.model_uri, *given) == 1
        assert states(experiment)["signature"] == [State.differs]


def test_a_key_that_is_none_is_refused(
    chat: GenaiModel, keys: tuple[Path, Path], experiment: str, verify_at: Verify
) -> None:
    private, public = keys
    assert verify_at(chat.model_uri, f"verify.sign_with={public}") == 2
    assert "is no private key to sign with" in error(experiment)
    assert verify_at(chat.model_uri, f"verify.public_key={private}") == 2
    assert "is no public key" in error(experiment)
    assert verify_at(chat.model_uri, f"verify.sign_with={PROJECT}/none.pem") == 2


def test_what_differs_is_not_signed(
    copied: Path, keys: tuple[Path, Path], experiment: str, verify_at: Verify
) -> None:
    flip(copied / "MLmodel")
    assert verify_at(str(copied), f"verify.sign_with={keys[0]}") == 1
    kept = {file.path for file in MlflowClient().list_artifacts(last_run(experiment))}
    assert kept == {"config.yaml", "verification.json"}
