"""Downloads over TLS from a hub whose certificate only the environment trusts."""

import datetime
import ipaddress
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.fixtures.hub_server import FakeHub
from tests.hub.conftest import Download


@pytest.fixture
def certificate(hub: FakeHub, tmp_path: Path) -> Path:
    """Make the hub use a self-signed certificate; return its file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "fake hub")])
    address = ipaddress.ip_address("127.0.0.1")
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(address)]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    file, key_file = tmp_path / "certificate.pem", tmp_path / "key.pem"
    file.write_bytes(signed.public_bytes(pem))
    key_file.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    hub.use_tls(file, key_file)
    return file


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_the_environment_are_trusted(
    download: Download, certificate: Path, variable: str
) -> None:
    process = download(**{variable: str(certificate)})
    assert process.returncode == 0, process.stderr


def test_other_certificates_are_refused(
    download: Download, hub: FakeHub, certificate: Path
) -> None:
    process = download()
    assert process.returncode == 1
    message = f"the TLS certificate of {hub.url} is not trusted: if a proxy or mirror has its own"
    assert message in process.stderr
    assert hub.requests == []


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), ("x", "no certificate")])
def test_unreadable_certificates_are_named(
    download: Download, tmp_path: Path, content: str | None, reason: str
) -> None:
    file = tmp_path / "bundle.pem"
    if content:
        file.write_text(content)
    process = download(SSL_CERT_FILE=str(file))
    assert process.returncode == 1
    assert f"SSL_CERT_FILE='{file}' has no readable certificates (" in process.stderr
    assert reason in process.stderr
    assert "Traceback" not in process.stderr
