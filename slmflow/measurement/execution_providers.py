"""Whether this machine can run what a target was made for."""

import onnxruntime_genai as og

from slmflow.config.schema.target import Provider, Target
from slmflow.errors import UserError

_AVAILABLE = {
    Provider.cpu: lambda: True,
    Provider.cuda: og.is_cuda_available,
    Provider.dml: og.is_dml_available,
}


def check(target: Target) -> None:
    """Raise UserError unless the installed GenAI runtime has the target's execution provider."""
    if not _AVAILABLE[target.provider]():
        raise UserError(
            f"target={target.name}: the ONNX Runtime GenAI installed here has no "
            f"{target.provider.value} provider (that is in {target.runtime}), so the model cannot "
            "be measured on this machine. Convert and log it with -e log_genai, and evaluate "
            "where the provider is"
        )
