"""The option that keeps the results of the tests on a real model."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--results", help="folder for the page with the results")
