"""Tracking stores and registered models for the tests of steps."""

from tests.registry.conftest import model, module_tracking
