"""What `verify` checks, and whether it signs: `verify.*`."""

from collections.abc import Iterator
from dataclasses import dataclass

from omegaconf import MISSING

from slmflow.paths import PROJECT, is_file


@dataclass
class Verify:
    """A logged model to check against what was recorded when it was logged.

    model_uri: a model's address, `registered` for the version with the alias of `registry`.
    sign_with: a file, relative to the project, with a private key (elliptic curve, PEM, not
    encrypted) to sign what holds with. public_key: a file with the key that the model's signature
    must hold against; signature: its file, null for the newest that `verify` has made of the model.
    """

    model_uri: str = MISSING
    sign_with: str | None = None
    public_key: str | None = None
    signature: str | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if not self.model_uri:
            yield "verify.model_uri is empty: give models:/NAME@ALIAS, or registered"
        for key in ("sign_with", "public_key", "signature"):
            if (value := getattr(self, key)) is not None and not is_file(PROJECT / value):
                yield f"verify.{key}={value!r}: there is no file {PROJECT / value}"
        if self.signature is not None and self.public_key is None:
            yield "verify.signature: give verify.public_key too, the key it is to hold against"
        if self.signature is not None and self.sign_with is not None:
            yield "verify.signature and verify.sign_with: give one of them"
