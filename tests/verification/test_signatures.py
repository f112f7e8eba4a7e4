"""Messages about a folder that differs from the signed one."""

from pathlib import Path

from model_signing import signing

from slmflow.verification import signatures
from slmflow.verification.findings import State
from tests.verification.key_pairs import create_key_pair


def test_altered_files_are_named_without_checksums(tmp_path: Path) -> None:
    """With many files, some checksums and names contain quotes and brackets."""
    private, public = create_key_pair(tmp_path, "mine")
    signature, folder = tmp_path / "model.sig", tmp_path / "model"
    folder.mkdir()
    names = sorted([*(f"{number:03}" for number in range(300)), "it's", 'say "so"', "\x1b[31m"])
    write_files(folder, names, "signed")
    signer = signing.Config()
    signer.use_elliptic_key_signer(private_key=private).sign(folder, signature)
    assert signatures.verify_signature(folder, public, signature, "m-0").state is State.holds

    write_files(folder, names, "altered")
    (folder / "more").touch()

    finding = signatures.verify_signature(folder, public, signature, "m-0")
    expected = [
        "Extra files found in model 'model': more",
        *(f"Hash mismatch for '{name}'" for name in names),
    ]
    assert finding.state is State.differs
    assert finding.detail.startswith(f"Signature mismatch: {expected}: ")
    assert finding.detail.isprintable()


def write_files(folder: Path, names: list[str], text: str) -> None:
    for name in names:
        (folder / name).write_text(text + name)
