"""Secrets in messages."""

import pytest

from slmflow.console.redaction import redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Bearer dapiOfNobody", "Bearer [hidden]"),
        ("dapiOfNobodyAtAll", "[hidden]"),  # the longer secret first
        ("https://ci:word@example.org/a.git", "https://[hidden]@example.org/a.git"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("short and public", "short and public"),
    ],
)
def test_secrets_are_redacted(text: str, redacted: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABRICKS_TOKEN", "dapiOfNobody")
    monkeypatch.setenv("OTHER_API_KEY", "dapiOfNobodyAtAll")
    monkeypatch.setenv("DB_PASSWORD", "short")
    monkeypatch.setenv("COLOR", "public")
    assert redact(text) == redacted
