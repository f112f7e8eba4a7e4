"""The weights of a checkpoint with other values where a graph quantizes them."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch

from slmflow.conversion.calibration.preparation import ModelTensors
from slmflow.conversion.quantization.schemes import Scheme


class ReplacedWeights(Mapping[str, torch.Tensor]):
    """Weights by their names in the checkpoint, tied ones included: float32, read on access."""

    def __init__(
        self, schemes: Mapping[str, Scheme], checkpoint: ModelTensors, *, fp16: bool
    ) -> None:
        """Replace the tensors that schemes have as their source.

        schemes: of each quantized weight by its name; several may be rows of one tensor; fp16:
        whether the other tensors are rounded to float16.
        """
        self._schemes = schemes
        self._parts: dict[str, list[str]] = {}
        for name, scheme in sorted(schemes.items(), key=lambda item: item[1].source.start):
            for alias in checkpoint.tied_names(scheme.source.name):
                self._parts.setdefault(alias, []).append(name)
        self._checkpoint = checkpoint
        self._fp16 = fp16

    @abstractmethod
    def _replacement(self, name: str, parts: Sequence[str]) -> torch.Tensor:
        """Return the values of a tensor of the checkpoint.

        parts: the names of the quantized weights that its rows consist of, in order.
        """

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return the values of a tensor."""
        if parts := self._parts.get(name):
            return self._replacement(name, parts)
        tensor = self._checkpoint[name]
        return tensor.half().float() if self._fp16 else tensor

    def __iter__(self) -> Iterator[str]:
        """Iterate over the checkpoint's names."""
        return iter(self._checkpoint)

    def __len__(self) -> int:
        """Return the number of names."""
        return len(self._checkpoint)
