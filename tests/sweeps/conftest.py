"""A tracking store for a whole file of tests."""

from tests.registry.conftest import place
