"""Check that this machine can run a target."""

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
            f"target={target.name}: the installed ONNX Runtime GenAI has no "
            f"{target.provider.value} provider ({target.runtime} has it), so this machine cannot "
            "measure the model. Convert and log it here with -e log_genai, and run evaluate on a "
            "machine that has the provider"
        )
