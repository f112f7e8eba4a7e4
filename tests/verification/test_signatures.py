"""What is said of a folder that is not the signed one."""

from pathlib import Path

from model_signing import signing

from slmflow.verification import signatures
from slmflow.verification.findings import State
from tests.verification.keys import pair


def test_every_altered_file_is_named_and_no_sum(tmp_path: Path) -> None:
    """Of many files: the bytes of some sums are quotes and brackets, as are characters of names."""
    private, public = pair(tmp_path, "mine")
    signature, folder = tmp_path / "model.sig", tmp_path / "model"
    folder.mkdir()
    names = sorted([*(f"{number:03}" for number in range(300)), "it's", 'say "so"', "\x1b[31m"])
    write(folder, names, "signed")
    signer = signing.Config()
    signer.use_elliptic_key_signer(private_key=private).sign(folder, signature)
    assert signatures.check(folder, public, signature, "m-0").state is State.holds

    write(folder, names, "altered")
    (folder / "more").touch()

    finding = signatures.check(folder, public, signature, "m-0")
    expected = [
        "Extra files found in model 'model': more",
        *(f"Hash mismatch for '{name}'" for name in names),
    ]
    assert finding.state is State.differs
    assert finding.told.startswith(f"Signature mismatch: {expected}: ")
    assert finding.told.isprintable()


def write(folder: Path, names: list[str], text: str) -> None:
    for name in names:
        (folder / name).write_text(text + name)
