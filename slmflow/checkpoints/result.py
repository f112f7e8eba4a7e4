"""What fetch hands on."""

from dataclasses import dataclass
from typing import ClassVar

from slmflow.pipeline.results import StoredResult


@dataclass(frozen=True)
class Weights(StoredResult):
    """Verified weights, config and tokenizer in the store, in the layout of a hub snapshot."""

    step: ClassVar = "fetch"
    reads: ClassVar = ("model.source", "model.id", "model.revision", "model.path")
