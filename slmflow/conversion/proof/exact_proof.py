"""Proof that the graph is right, before rounding can hide a fault in it.

The graph computes in fp32 with the weights as they were written, and must return the logits that
transformers' own code returns for those weights.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from slmflow.config.schema.target import Precision, Target
from slmflow.console.progress_bars import spinner
from slmflow.conversion.optimum_export import ExportedModel
from slmflow.conversion.proof import graph_variants, reference_logits
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.proof.runtime_process import Call, run_calls
from slmflow.conversion.reference_model import ReferenceModel
from slmflow.conversion.separate_adapters.files import AdaptedWeights, GraphAdapter
from slmflow.errors import UserError

# Largest difference between fp32 kernels that sum in another order, as a share of the largest logit
# (at least 1). Anything above it is another computation.
FP32_TOLERANCE = 1e-3

# Enough rows for a batch of unequal lengths, few enough for a large model to run them quickly.
PROOF_ROWS = 4
PROOF_STEPS = 4


def prove(
    exported: ExportedModel,
    reference: ReferenceModel,
    folder: Path,
    target: Target,
    prompts: Sequence[Sequence[int]],
    adapter: GraphAdapter | None = None,
) -> float:
    """Compare the exact graph with the reference, both on the weights stored in the folder.

    Runs a padded batch of the first prompts, of unequal lengths, and decodes a few tokens, which
    uses the KV cache, with an adapter of the folder if one is given. Returns the largest absolute
    difference of any logit. Raises UserError if it exceeds the tolerance.
    """
    rows = [list(prompt) for prompt in prompts[:PROOF_ROWS]]
    stored = graph_variants.StoredWeights(
        exported, exported.tensors, folder, fp16=target.precision is Precision.fp16
    )
    name = adapter.name if adapter else None
    with (
        graph_variants.exact_graph(exported, stored, folder) as graph,
        spinner(f"proof: the graph runs in fp32{f' with adapter {name}' if name else ''}"),
    ):
        (logits,) = run_calls(folder, graph, [Call("decode_logits", [rows, PROOF_STEPS])], name)
    weights = AdaptedWeights(stored, adapter) if adapter else stored
    generated = logits[:-1].argmax(-1).T
    texts = [[*row, *tokens] for row, tokens in zip(rows, generated.tolist(), strict=True)]
    computed = reference_logits.compute(reference.model, weights, texts)
    expected = np.stack([text_logits[-PROOF_STEPS:] for text_logits in computed], axis=1)
    difference = float(np.nanmax(np.abs(logits - expected)))
    check_tolerance(difference, largest=float(np.abs(expected).max()))
    return difference


def prove_preparation(
    exported: ExportedModel,
    reference: ReferenceModel,
    prompts: Sequence[Sequence[int]],
    expected: Sequence[Logits],
) -> None:
    """Check that the unrounded tensors of a calibrated model are still the model.

    expected: logits of the reference for each prompt. Raises UserError if any logit differs by more
    than the tolerance.
    """
    rows = prompts[:PROOF_ROWS]
    computed = reference_logits.compute(reference.model, exported.tensors, rows)
    pairs = list(zip(computed, expected, strict=False))
    check_tolerance(
        max(float(np.abs(logits - other).max()) for logits, other in pairs),
        largest=max(float(np.abs(other).max()) for _, other in pairs),
    )


def check_tolerance(difference: float, *, largest: float) -> None:
    """Raise UserError if fp32 logits differ by more than the order of sums explains.

    largest: the largest logit of the reference.
    """
    tolerance = FP32_TOLERANCE * max(1.0, largest)
    if not difference <= tolerance:
        raise UserError(
            f"the ONNX graph does not match the reference: its fp32 logits differ by "
            f"{difference:.2g}, more than the tolerance of {tolerance:.2g}. Try the other exporter "
            "(exporter=builder or exporter=optimum)"
        )
