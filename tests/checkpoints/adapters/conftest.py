"""A trained adapter of the bundled model."""

from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def random_adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter with random matrices on all Linear modules of each layer."""
    from tests.fixtures import lora_adapters

    folder = tmp_path_factory.mktemp("adapter")
    lora_adapters.randomize(lora_adapters.untrained()).save_pretrained(folder)
    return folder
