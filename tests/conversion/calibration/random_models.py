"""Models of random weights as calibration takes them: without weights, and their checkpoints."""

import copy
from pathlib import Path
from typing import Any

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import reference_model
from tests.conversion import architectures
from tests.conversion.architectures import FUSED, UNFUSED

MODELS = FUSED | UNFUSED


def load(name: str, folder: Path, **settings: Any) -> tuple[Any, CheckpointTensors]:
    """Save one of `MODELS` with settings replaced; return its model and its checkpoint."""
    config = copy.deepcopy(MODELS[name])
    for key, value in ({"initializer_range": 0.12} | settings).items():
        setattr(config, key, value)
    architectures.save_random_model(config, folder)
    return open_checkpoint(folder)


def open_checkpoint(folder: Path) -> tuple[Any, CheckpointTensors]:
    """Return the model of a folder without weights, and its checkpoint."""
    model = reference_model.load(folder).model
    return model, CheckpointTensors.for_model(folder, model)
