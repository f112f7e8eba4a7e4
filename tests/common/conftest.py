"""Fixtures of the tests that talk to a hub on loopback."""

from tests.fetch.conftest import home, hub, run
