"""The table of clients, and that every client is complete."""

import pytest

from tests.clients import environments, table
from tests.clients.run import CLIENTS, Client
from tests.clients.table import FAILED, REFUSED, WORKS, Outcome, Table

ROWS = {
    "one 1.0": [Outcome("chat", WORKS), Outcome("n", FAILED, "too few")],
    "two 2.0": [Outcome("embeddings", REFUSED, "Error: POST /v1/embeddings: Not Found\nmore")],
}


def test_table_has_a_row_for_each_client() -> None:
    page = table.page([Table("SmolLM2", ROWS)])
    assert "| client | chat | n | embeddings |" in page
    assert "| one 1.0 | works | failed | - |" in page
    assert "| two 2.0 | - | - | refused |" in page
    assert "- embeddings: Error: POST /v1/embeddings: Not Found\n" in page


def test_failures_name_client_and_feature() -> None:
    assert Table("SmolLM2", ROWS).failures == ["one 1.0, n: too few"]


@pytest.mark.parametrize("client", CLIENTS, ids=lambda client: client.name)
def test_clients_have_a_script_and_a_pinned_version(client: Client) -> None:
    folder = "js" if client.environment == "node" else "cells"
    assert (environments.FOLDER / folder / client.script).is_file()
    assert client.version[0].isdigit()
