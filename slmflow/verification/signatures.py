"""Signatures of a model's folder in the OpenSSF Model Signing format, with a key pair.

The signature is an artifact of the run of `verify` that signed, so the model's files do not change.
A tag of the logged model names it. Other programs for OpenSSF Model Signing can verify it as well.
"""

import ast
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.models_artifact_repo import REGISTERED_MODEL_META_FILE_NAME
from model_signing import hashing, signing, verifying

from slmflow.errors import BadArguments
from slmflow.verification.findings import Finding, State

SIGNATURE_TAG = "slmflow.signature"
"""Tag of a logged model: the URI of its newest signature."""

_FILE = "model.sig"

_MISMATCH = "Signature mismatch: "


def sign_model(folder: Path, private_key: Path, model_id: str, run_id: str) -> Finding:
    """Sign a model and log the signature to the active run.

    Raises BadArguments if the private key is invalid.
    """
    hashing_config = hashing.Config().set_ignored_paths(
        paths=[REGISTERED_MODEL_META_FILE_NAME], ignore_git_paths=False
    )
    signer = signing.Config().set_hashing_config(hashing_config)
    with _key_errors(
        f"verify.sign_with: {private_key} is not a private key for signing",
        "use an unencrypted PEM key, `openssl ecparam -name prime256v1 -genkey -noout`",
    ):
        signer.use_elliptic_key_signer(private_key=private_key)
    with tempfile.TemporaryDirectory() as scratch:
        signer.sign(folder, Path(scratch, _FILE))
        mlflow.log_artifact(str(Path(scratch, _FILE)))
    signature_uri = f"runs:/{run_id}/{_FILE}"
    with suppress(MlflowException):  # without this model on the server, use verify.signature
        MlflowClient().set_logged_model_tags(model_id, {SIGNATURE_TAG: signature_uri})
    return Finding("signature", State.holds, f"signed with {private_key.name}: {signature_uri}")


def verify_signature(
    folder: Path, public_key: Path, signature: Path | None, model_id: str
) -> Finding:
    """Verify a signature of a model; None is the newest that the model's tag names.

    Raises BadArguments if the public key is invalid.
    """
    verifier = verifying.Config()
    with _key_errors(
        f"verify.public_key: {public_key} is not a public key",
        "use a PEM key of an elliptic curve, `openssl ec -in PRIVATE_KEY -pubout`",
    ):
        verifier.use_elliptic_key_verifier(public_key=public_key)
    with tempfile.TemporaryDirectory() as scratch:
        signature = signature or _download_signature(model_id, Path(scratch))
        if signature is None:
            detail = "the model has no signature: sign it, or set verify.signature"
            return Finding("signature", State.differs, detail)
        try:
            verifier.verify(folder, signature)
        except InvalidSignature:
            return _invalid(f"it was not made with {public_key.name}")
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, OSError) as error:
            return _invalid(_without_checksums(str(error)))
    return Finding("signature", State.holds, f"made with the private key of {public_key.name}")


def report_unchecked(model_id: str) -> Finding:
    """Return the finding for a model whose signature is not verified, for lack of a public key."""
    uri = _signature_uri(model_id)
    detail = f"it is {uri}: set verify.public_key to verify it" if uri else "the model has none"
    return Finding("signature", State.unchecked, detail)


def _without_checksums(message: str) -> str:
    """Remove the raw bytes of checksums from an error of OpenSSF Model Signing.

    If files differ from the signed ones, the message ends with the repr of a list of them.
    """
    if not message.startswith(_MISMATCH):
        return message
    differences = ast.literal_eval(message.removeprefix(_MISMATCH))
    return f"{_MISMATCH}{[difference.partition(': Expected ')[0] for difference in differences]}"


def _invalid(reason: str) -> Finding:
    remedy = "check that verify.public_key is the signer's; if it is, do not use the model"
    return Finding("signature", State.differs, f"{reason}: {remedy}")


@contextmanager
def _key_errors(problem: str, remedy: str) -> Iterator[None]:
    """Turn errors of reading a key into BadArguments."""
    try:
        yield
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise BadArguments(f"{problem} ({error}): {remedy}") from error


def _download_signature(model_id: str, folder: Path) -> Path | None:
    if (uri := _signature_uri(model_id)) is None:
        return None
    try:
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder)))
    except (MlflowException, OSError):
        return None


def _signature_uri(model_id: str) -> str | None:
    try:
        uri: str | None = mlflow.get_logged_model(model_id).tags.get(SIGNATURE_TAG)
    except MlflowException:
        return None
    return uri
