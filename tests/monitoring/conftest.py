"""A tracking store per test file, and the messages of steps that run in this process."""

from tests.registry.conftest import module_tracking
from tests.steps.conftest import printed
