"""Plain rounding of a checkpoint's weights, without a graph."""

import dataclasses
from collections.abc import Sequence

import torch

from slmflow.config.schema.target import Algorithm
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.replaced_weights import ReplacedWeights
from slmflow.conversion.quantization.schemes import ScaleType


class PlainlyRoundedWeights(ReplacedWeights):
    """Weights rounded to nearest (rtn) with the bits, blocks and symmetry of their schemes.

    Scales are float32.
    """

    def _replacement(self, name: str, parts: Sequence[str]) -> torch.Tensor:
        tensor = self._checkpoint[name]
        for part in parts:
            scheme = dataclasses.replace(
                self._schemes[part], algorithm=Algorithm.rtn, scale_type=ScaleType.float32
            )
            weight = tensor[scheme.source.start : scheme.source.stop]
            weight.copy_(torch.from_numpy(blockwise.dequantize(scheme.quantize(weight))))
        return tensor
