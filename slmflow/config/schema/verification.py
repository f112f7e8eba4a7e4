"""The logged model to verify, and its signature: `verify.*`."""

from collections.abc import Iterator
from dataclasses import dataclass

from slmflow.config.schema.fields import Kind, config_key
from slmflow.paths import PROJECT, is_file


@dataclass
class Verify:
    """A logged model to check against what was recorded when it was logged."""

    model_uri: str = config_key(
        Kind.model_uri, "URI of a logged model; `registered` is the target's version"
    )
    sign_with: str | None = config_key(
        Kind.path, "private key (elliptic curve, PEM, unencrypted) that signs a valid model", None
    )
    public_key: str | None = config_key(
        Kind.path, "public key that the model's signature must match", None
    )
    signature: str | None = config_key(
        Kind.path, "signature file; null is the model's newest that `verify` wrote", None
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if not self.model_uri:
            yield "verify.model_uri is empty: give models:/NAME@ALIAS, or registered"
        for key in ("sign_with", "public_key", "signature"):
            if (value := getattr(self, key)) is not None and not is_file(PROJECT / value):
                yield f"verify.{key}={value!r}: there is no file {PROJECT / value}"
        if self.signature is not None and self.public_key is None:
            yield "verify.signature: give verify.public_key too, the key it must match"
        if self.signature is not None and self.sign_with is not None:
            yield "verify.signature and verify.sign_with: give one of them"
