"""A tracking store per test file."""

from tests.registry.conftest import module_tracking
