"""The step verify on real models of both flavors, unchanged and after each kind of tampering."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from slmflow.config import compose as configs
from slmflow.flavors.log_model import CHECKSUMS_TAG
from slmflow.flavors.provenance import CHECKSUMS_FILE, PROJECT_CONSTRAINTS
from slmflow.paths import PROJECT
from slmflow.pipeline import digests, manifests, runs, step, step_runner, store
from slmflow.pipeline.keys import key_of
from slmflow.pipeline.results import GenaiModel, LoggedModel, TransformersModel
from slmflow.verification.findings import State
from slmflow.verification.signatures import SIGNATURE_TAG
from steps.verify import verify
from tests.fixtures.bundled_model import FP32
from tests.verification.key_pairs import create_key_pair

QUESTION = {"messages": [{"role": "user", "content": "What is the capital of France?"}]}


@dataclass(frozen=True)
class Verifier:
    """Runs the step in an experiment and reads its newest run."""

    experiment: str

    def verify(self, model_uri: object, *overrides: str) -> int:
        """Run the step; return the exit status."""
        arguments = (f"verify.model_uri={model_uri}", *overrides)
        return step_runner.run(
            "verify", verify, arguments, new_run={"experiment_id": self.experiment}
        )

    def fail(self, model_uri: object, *overrides: str, status: int = 1) -> str:
        """Run the step, which must fail with this exit status; return its error."""
        assert self.verify(model_uri, *overrides) == status
        return str(self.run.data.tags[runs.ERROR])

    @property
    def run(self) -> Run:
        query, order = "tags.`slmflow.step` = 'verify'", ["attributes.start_time DESC"]
        [run] = MlflowClient().search_runs([self.experiment], query, order_by=order, max_results=1)
        return run

    @property
    def findings(self) -> list[dict[str, str]]:
        uri = f"runs:/{self.run.info.run_id}/verification.json"
        findings: list[dict[str, str]] = mlflow.artifacts.load_dict(uri)["checks"]
        return findings

    def states(self) -> dict[str, list[State]]:
        states: dict[str, list[State]] = {}
        for finding in self.findings:
            states.setdefault(finding["check"], []).append(State(finding["state"]))
        return states


@pytest.fixture
def verifier(experiment: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Verifier:
    """The step with the store in which the models were made."""
    monkeypatch.setenv("SLMFLOW_HOME", str(home))
    return Verifier(experiment)


@pytest.fixture
def copied_model(chat: GenaiModel, tmp_path: Path) -> Path:
    """A copy of the GenAI model that a test may alter."""
    return Path(shutil.copytree(folder_of(chat), tmp_path / "model"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    """A private and a public key."""
    return create_key_pair(tmp_path, "mine")


def folder_of(model: LoggedModel) -> Path:
    return Path(mlflow.artifacts.download_artifacts(model.model_uri))


def flip_bit(file: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def tamper_with_checksums(model: Path) -> None:
    """Change a file of a model and its recorded checksum."""
    flip_bit(model / "requirements.txt")
    recorded = json.loads((model / CHECKSUMS_FILE).read_text())
    recorded["requirements.txt"] = digests.sha256(model / "requirements.txt")
    (model / CHECKSUMS_FILE).write_text(json.dumps(recorded, indent=1))


@pytest.mark.parametrize("flavor", ["chat", "pipeline"])
def test_loaded_model_still_verifies(
    request: pytest.FixtureRequest, verifier: Verifier, flavor: str
) -> None:
    model: LoggedModel = request.getfixturevalue(flavor)
    mlflow.pyfunc.load_model(model.model_uri).predict(QUESTION)

    assert verifier.verify(model.model_uri) == 0

    states = verifier.states()
    assert set(states) == {"files", "sums", "run", "contents", "store", "lock", "signature"}
    assert states["signature"] == [State.unchecked]
    checked = [state for check in ("files", "sums", "contents", "store") for state in states[check]]
    assert set(checked) == {State.holds}
    assert len(states["store"]) == (2 if flavor == "chat" else 1)


def test_model_contains_its_provenance(chat: GenaiModel, weights: Path, onnx: Path) -> None:
    folder = folder_of(chat) / "provenance"
    provenance = json.loads((folder / "provenance.json").read_text())

    source = {"source": "bundled", "id": None, "revision": None, "licence": "Apache-2.0"}
    assert provenance["model"] == source | {"template_sha256": None}
    config = configs.load(FP32)
    assert provenance["keys"]["log_genai"] == key_of(GenaiModel, config)
    assert set(provenance["keys"]) == {"fetch", "convert", "log_genai"}
    fetched, converted = provenance["sources"]
    assert fetched["files"] == manifests.checksums(weights)
    assert fetched["entry"] == f"weights/{provenance['keys']['fetch']}"
    assert converted["files"] == manifests.checksums(onnx)
    assert (provenance["model_id"], len(provenance["run_id"])) == (chat.model_id, 32)
    lock_file = folder / PROJECT_CONSTRAINTS.name
    assert lock_file.read_bytes() == PROJECT_CONSTRAINTS.read_bytes()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 40_000


def test_changed_bit_of_any_file_is_named(copied_model: Path, verifier: Verifier) -> None:
    paths = json.loads((copied_model / CHECKSUMS_FILE).read_text()).keys()
    before = {path: (copied_model / path).read_bytes() for path in paths}
    for path in paths:
        flip_bit(copied_model / path)

    error = verifier.fail(copied_model)

    assert [path for path in paths if f"changed: {path!r}" not in error] == []
    for path, content in before.items():
        (copied_model / path).write_bytes(content)
    assert verifier.verify(copied_model) == 0
    flip_bit(copied_model / CHECKSUMS_FILE)
    assert CHECKSUMS_FILE in verifier.fail(copied_model)


def test_missing_added_and_linked_files_are_named(
    chat: GenaiModel, copied_model: Path, verifier: Verifier, tmp_path: Path
) -> None:
    (copied_model / "conda.yaml").unlink()
    bytecode = "code/runtime/__pycache__/text.cpython-311.pyc"
    (copied_model / bytecode).parent.mkdir()
    (copied_model / bytecode).write_bytes(b"planted")
    elsewhere = (copied_model / "MLmodel").rename(tmp_path / "elsewhere")
    (copied_model / "MLmodel").symlink_to(elsewhere)
    (copied_model / "more").symlink_to(tmp_path, target_is_directory=True)

    error = verifier.fail(copied_model)
    assert "missing: 'conda.yaml'" in error
    assert f"added: '{bytecode}'" in error
    assert "changed: 'MLmodel'" in error
    assert "added: 'more'" in error
    assert f"To build it again, delete {chat.model_id}" in error


def test_altered_checksums_differ_from_the_servers(copied_model: Path, verifier: Verifier) -> None:
    tamper_with_checksums(copied_model)

    assert CHECKSUMS_FILE in verifier.fail(copied_model)

    assert verifier.states()["files"] == [State.holds]
    assert verifier.states()["sums"] == [State.differs]


def test_swapped_model_is_detected(
    pipeline: TransformersModel, chat: GenaiModel, verifier: Verifier
) -> None:
    folder = folder_of(chat)
    original = folder.rename(folder.with_name("original"))
    try:
        shutil.copytree(folder_of(pipeline), folder)
        assert f"it is {pipeline.model_id}" in verifier.fail(chat.model_uri)
    finally:
        shutil.rmtree(folder)
        original.rename(folder)


def test_changed_store_entry_is_named_and_absent_one_reported(
    chat: GenaiModel,
    home: Path,
    weights: Path,
    verifier: Verifier,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(home, tmp_path / "home")
    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "home"))
    stored = tmp_path / "home" / "weights" / weights.name / "model.safetensors"
    changed = stored.stat().st_mtime_ns
    flip_bit(stored)
    os.utime(stored, ns=(changed, changed))  # so that a step would trust the file
    assert "changed: 'model.safetensors'" in verifier.fail(chat.model_uri)

    monkeypatch.setenv("SLMFLOW_HOME", str(tmp_path / "nothing"))
    assert verifier.verify(chat.model_uri) == 0
    assert set(verifier.states()["store"]) == {State.unchecked}


def test_unknown_model_of_a_folder_is_reported(copied_model: Path, tracking: str) -> None:
    """The tracking server does not have the model of this folder."""
    verifier = Verifier("0")

    assert verifier.verify(copied_model) == 0

    states = verifier.states()
    assert states["files"] == [State.holds]
    assert states["sums"] == states["run"] == [State.unchecked]


def test_registered_version_verifies(chat: GenaiModel, verifier: Verifier) -> None:
    mlflow.register_model(chat.model_uri, "verified")
    mlflow.pyfunc.load_model("models:/verified/1")
    note = folder_of(chat) / "registered_model_meta"  # MLflow's note of the version
    content = note.read_text()

    assert verifier.verify("models:/verified/1") == 0
    assert verifier.verify(chat.model_uri) == 0

    note.write_text(content + "more: 1\n")
    assert "added: 'registered_model_meta'" in verifier.fail(chat.model_uri)
    note.write_text(content)


def test_model_of_another_program_is_rejected(tmp_path: Path, verifier: Verifier) -> None:
    (tmp_path / "MLmodel").write_text("flavors: {}\n")
    assert f"has no readable {CHECKSUMS_FILE}" in verifier.fail(tmp_path)

    assert "no model can be read from there" in verifier.fail("models:/nobody/1", status=2)


@pytest.mark.parametrize("content", ["{", "[]", '{"sources": [{}]}', '{"MLmodel": 3}', "[" * 10**5])
def test_invalid_provenance_is_one_message(
    copied_model: Path, verifier: Verifier, content: str
) -> None:
    (copied_model / "provenance" / "provenance.json").write_text(content)
    assert "changed: 'provenance/provenance.json'" in verifier.fail(copied_model)
    (copied_model / CHECKSUMS_FILE).write_text(content)
    assert f"has no readable {CHECKSUMS_FILE}" in verifier.fail(copied_model)


def test_signature_verifies_here_and_in_model_signing(
    chat: GenaiModel, keys: tuple[Path, Path], verifier: Verifier, tmp_path: Path
) -> None:
    private, public = keys
    error = verifier.fail(chat.model_uri, f"verify.public_key={public}")
    assert "has no valid signature:\nsignature: the model has no signature" in error
    assert verifier.verify(chat.model_uri, f"verify.sign_with={private}") == 0
    uri = mlflow.get_logged_model(chat.model_id).tags[SIGNATURE_TAG]
    assert uri == f"runs:/{verifier.run.info.run_id}/model.sig"
    assert verifier.verify(chat.model_uri) == 0
    [detail] = [each["detail"] for each in verifier.findings if each["check"] == "signature"]
    assert f"it is {uri}" in detail

    assert verifier.verify(chat.model_uri, f"verify.public_key={public}") == 0
    assert verifier.states()["signature"] == [State.holds]
    signature = mlflow.artifacts.download_artifacts(uri, dst_path=str(tmp_path))
    model_signing = [sys.executable, "-m", "model_signing", "verify", "key", str(folder_of(chat))]
    options = ["--signature", signature, "--public_key", str(public)]
    process = subprocess.run([*model_signing, *options], capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    files = [file for file in folder_of(chat).parents[1].rglob("*") if file.is_file()]
    assert not [file for file in files if private.read_bytes() in file.read_bytes()]


def test_signature_names_files_whose_checksums_were_altered(
    chat: GenaiModel,
    copied_model: Path,
    keys: tuple[Path, Path],
    verifier: Verifier,
    tmp_path: Path,
) -> None:
    private, public = keys
    sign = (f"verify.sign_with={private}", f"verify.public_key={public}")
    assert verifier.verify(copied_model, *sign) == 0
    signature = mlflow.artifacts.download_artifacts(
        f"runs:/{verifier.run.info.run_id}/model.sig", dst_path=str(tmp_path)
    )
    tamper_with_checksums(copied_model)
    MlflowClient().delete_logged_model_tag(chat.model_id, CHECKSUMS_TAG)

    overrides = (f"verify.signature={signature}", f"verify.public_key={public}")
    mismatches = [f"Hash mismatch for '{name}'" for name in (CHECKSUMS_FILE, "requirements.txt")]
    error = verifier.fail(copied_model, *overrides)

    assert f"signature: Signature mismatch: {mismatches}" in error
    assert verifier.states()["files"] == [State.holds]
    assert verifier.states()["sums"] == [State.unchecked]


def test_other_keys_and_invalid_signatures_fail(
    chat: GenaiModel, keys: tuple[Path, Path], verifier: Verifier, tmp_path: Path
) -> None:
    private, public = keys
    _, other = create_key_pair(tmp_path, "other")
    assert verifier.verify(chat.model_uri, f"verify.sign_with={private}") == 0
    error = verifier.fail(chat.model_uri, f"verify.public_key={other}")
    assert "Key mismatch" in error
    assert "check that verify.public_key is the signer's" in error

    signature = tmp_path / "invalid.sig"
    for content in ("", "{}", "[]", '{"mediaType": 3}', "\x00"):
        signature.write_text(content)
        overrides = (f"verify.signature={signature}", f"verify.public_key={public}")
        assert verifier.verify(chat.model_uri, *overrides) == 1
        assert verifier.states()["signature"] == [State.differs]


def test_invalid_key_is_rejected(
    chat: GenaiModel, keys: tuple[Path, Path], verifier: Verifier
) -> None:
    private, public = keys
    for override, message in {
        f"verify.sign_with={public}": "is not a private key for signing",
        f"verify.public_key={private}": "is not a public key",
    }.items():
        assert message in verifier.fail(chat.model_uri, override, status=2)
    assert verifier.verify(chat.model_uri, f"verify.sign_with={PROJECT}/none.pem") == 2


def test_altered_model_is_not_signed(
    copied_model: Path, keys: tuple[Path, Path], verifier: Verifier
) -> None:
    flip_bit(copied_model / "MLmodel")
    assert verifier.verify(copied_model, f"verify.sign_with={keys[0]}") == 1
    artifacts = MlflowClient().list_artifacts(verifier.run.info.run_id)
    assert {file.path for file in artifacts} == {"config.yaml", "verification.json"}
