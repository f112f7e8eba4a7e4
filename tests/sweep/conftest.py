"""A tracking store for a whole file of tests."""

from tests.register.conftest import place
