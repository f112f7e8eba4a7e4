"""Whether weights and activations fit in float16: beyond 65,504 they become infinite, then NaN."""

from dataclasses import dataclass

import torch

from slmflow.console import messages
from slmflow.errors import UserError

LARGEST = torch.finfo(torch.float16).max

_ADVICE = (
    "choose a target that computes in fp32, such as cpu_int4 or cpu_fp32, or a checkpoint that was "
    "trained in float16"
)


@dataclass
class LargestValue:
    """The largest absolute value of any weight, and of any input or output of a module.

    The first value beyond the range of float16 stays, since the values after it follow from it.
    name: the weight or module where it occurs; value: the value, infinite if not a number.
    """

    name: str = ""
    value: float = 0.0

    def observe(self, name: str, tensor: torch.Tensor) -> None:
        """Take one tensor into account."""
        if self.value > LARGEST or not tensor.is_floating_point() or not tensor.numel():
            return
        value = float(tensor.abs().nan_to_num(torch.inf).max())
        if value > self.value:
            self.name, self.value = name, value

    def check(self, target: str) -> None:
        """Raise UserError beyond the range of float16, and warn beyond half of it."""
        if self.value > LARGEST:
            raise UserError(
                f"target={target} computes in float16, which ends at {LARGEST:,.0f}, but the "
                f"values of {self.name} reach {self.value:,.0f} on the probe texts, so "
                f"that answers would be NaN: {_ADVICE}"
            )
        if self.value > LARGEST / 2:
            messages.warning(
                f"target={target} computes in float16, which ends at {LARGEST:,.0f}, and the "
                f"values of {self.name} reach {self.value:,.0f} on the probe texts: other "
                f"texts may exceed the range. If answers break off or repeat, {_ADVICE}"
            )
