"""Fidelity of a converted folder, run in the runtime as it is served."""

from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

from slmflow.conversion.proof import fidelity, graph_variants
from slmflow.conversion.proof.fidelity import Fidelity
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.proof.runtime_process import Call, run_calls


def measure(
    folder: Path, windows: Sequence[Sequence[int]], expected: Iterable[Logits], label: str
) -> Fidelity:
    """Compare the folder's logits of the windows with the reference's; see `fidelity.measure`."""
    calls = [Call("logits", [ids]) for ids in windows]
    with (
        graph_variants.all_positions(folder) as graph,
        closing(run_calls(folder, graph, calls)) as logits,
    ):
        return fidelity.measure(windows, expected, logits, label)
