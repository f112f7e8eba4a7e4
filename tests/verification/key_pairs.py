"""Key pairs for signatures."""

from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec


def create_key_pair(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a private and a public key to a folder."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    pem = serialization.Encoding.PEM
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public
