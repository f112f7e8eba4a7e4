"""Signatures of a model's folder in the format of OpenSSF Model Signing, by a pair of keys.

A model is not touched by its signature, which is an artifact of the run of `verify` that signed;
a tag of the logged model names it. Other programs of OpenSSF Model Signing can check it as well.
"""

import ast
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from model_signing import hashing, signing, verifying

from slmflow.errors import BadArguments
from slmflow.verification.findings import Finding, State

SIGNATURE = "slmflow.signature"
"""The tag of a logged model that has the address of its newest signature."""

_FILE = "model.sig"

_MISMATCH = "Signature mismatch: "


def sign(folder: Path, private_key: Path, model_id: str, run_id: str) -> Finding:
    """Sign a model; the signature is an artifact of the active run.

    Raises BadArguments where the key is none to sign with.
    """
    hashed = hashing.Config().set_ignored_paths(
        paths=[REGISTERED_MODEL_META_FILE_NAME], ignore_git_paths=False
    )
    signer = signing.Config().set_hashing_config(hashed)
    with _usable(
        f"verify.sign_with: {private_key} is no private key to sign with",
        "give one in PEM that is not encrypted, `openssl ecparam -name prime256v1 -genkey -noout`",
    ):
        signer.use_elliptic_key_signer(private_key=private_key)
    with tempfile.TemporaryDirectory() as scratch:
        signer.sign(folder, Path(scratch, _FILE))
        mlflow.log_artifact(str(Path(scratch, _FILE)))
    address = f"runs:/{run_id}/{_FILE}"
    _note(model_id, address)
    return Finding("signature", State.holds, f"made now with {private_key.name}: {address}")


def check(folder: Path, public_key: Path, given: Path | None, model_id: str) -> Finding:
    """Check a signature of a model, the given one or the newest that is noted.

    Raises BadArguments where the key is none to check with.
    """
    verifier = verifying.Config()
    with _usable(
        f"verify.public_key: {public_key} is no public key",
        "give one of an elliptic curve, in PEM, `openssl ec -in PRIVATE_KEY -pubout`",
    ):
        verifier.use_elliptic_key_verifier(public_key=public_key)
    with tempfile.TemporaryDirectory() as scratch:
        signature = given or _noted(model_id, Path(scratch))
        if signature is None:
            told = "no signature is noted of this model: sign it, or give verify.signature"
            return Finding("signature", State.differs, told)
        try:
            verifier.verify(folder, signature)
        except InvalidSignature:
            return _refused(f"it was not made with {public_key.name}")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError) as error:
            return _refused(_without_sums(str(error)))
    return Finding("signature", State.holds, f"made with the private key of {public_key.name}")


def _without_sums(message: str) -> str:
    """Return a message of OpenSSF Model Signing without the bytes of sums, which say nothing.

    Where files differ from those signed, it ends with the repr of a list of them.
    """
    if not message.startswith(_MISMATCH):
        return message
    differences = ast.literal_eval(message.removeprefix(_MISMATCH))
    return f"{_MISMATCH}{[difference.partition(': Expected ')[0] for difference in differences]}"


def _refused(reason: str) -> Finding:
    remedy = "see that verify.public_key is its signer's; if it is, do not use the model"
    return Finding("signature", State.differs, f"{reason}: {remedy}")


def unchecked(model_id: str) -> Finding:
    """Return whether there is a signature that a public key could check."""
    address = _address(model_id)
    told = f"it is {address}: give verify.public_key" if address else "none is noted of this model"
    return Finding("signature", State.unchecked, told)


@contextmanager
def _usable(problem: str, remedy: str) -> Iterator[None]:
    """Raise BadArguments where the block cannot read a key."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise BadArguments(f"{problem} ({error}): {remedy}") from error


def _note(model_id: str, address: str) -> None:
    try:
        MlflowClient().set_logged_model_tags(model_id, {SIGNATURE: address})
    except MlflowException:
        return  # this tracking server does not have the model: `verify.signature` then says where


def _noted(model_id: str, scratch: Path) -> Path | None:
    if (address := _address(model_id)) is None:
        return None
    try:
        return Path(mlflow.artifacts.download_artifacts(address, dst_path=str(scratch)))
    except (MlflowException, OSError):
        return None


def _address(model_id: str) -> str | None:
    try:
        address: str | None = mlflow.get_logged_model(model_id).tags.get(SIGNATURE)
    except MlflowException:
        return None
    return address
