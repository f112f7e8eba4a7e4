"""From a snapshot folder to an ONNX model that is proven equal, and the record of how it went."""

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from slmflow.checkpoints import size_limits
from slmflow.checkpoints.tensors import Checkpoint
from slmflow.config.schema.target import ExporterName, Precision, Target
from slmflow.console import messages
from slmflow.conversion import genai_builder, parity, proof_graphs, reference_model, tracing
from slmflow.conversion.export import export
from slmflow.conversion.external_data import GRAPH
from slmflow.conversion.parity import Parity
from slmflow.conversion.passes.graph import Matched
from slmflow.conversion.probes import TEXTS, prepare
from slmflow.conversion.reference_model import Logits
from slmflow.errors import UserError
from slmflow.system.memory import give_back_freed, peak_rss_bytes

RECORD = "conversion.json"


@dataclass(frozen=True)
class Conversion:
    """How a conversion went; kept beside the graph as `conversion.json`.

    parity: of the finished model; exact_max_abs_diff: the largest difference of any logit between
    the graph computing in fp32 and the original, both with the weights as they were written;
    passes: what each graph pass matched (none of exporter=builder's graph); seconds: wall time;
    peak_rss_mb: peak resident memory of the process in 10^6 bytes, None where the system does not
    tell; onnx_size_mb: graph and weights on disk in 10^6 bytes.
    """

    parity: Parity
    exact_max_abs_diff: float | None
    passes: tuple[Matched, ...]
    seconds: float
    peak_rss_mb: float | None
    onnx_size_mb: float

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the record of a converted folder."""
        fields = json.loads((folder / RECORD).read_text())
        nested = {
            "parity": Parity(**fields["parity"]),
            "passes": tuple(Matched(**matched) for matched in fields["passes"]),
        }
        return cls(**(fields | nested))

    def metrics(self) -> dict[str, float]:
        """Return the figures that were measured, under the names that convert logs."""
        figures = {
            **{f"parity.{name}": value for name, value in asdict(self.parity).items()},
            "parity.exact_max_abs_diff": self.exact_max_abs_diff,
            **{f"passes.{matched.name}": matched.matched for matched in self.passes},
            "convert.seconds": self.seconds,
            "convert.peak_rss_mb": self.peak_rss_mb,
            "onnx_size_mb": self.onnx_size_mb,
        }
        return {name: value for name, value in figures.items() if value is not None}


def convert_model(weights: Path, folder: Path, target: Target, exporter: ExporterName) -> None:
    """Write the ONNX model of a snapshot folder into `folder`, with its record.

    Raises UserError where the exporter does not know the architecture, and where the result is
    not the original: a graph that computes something else, or a probe text tokenized differently.
    """
    start = time.perf_counter()
    give_back_freed()
    genai_builder.check_known(weights)
    size_limits.check(weights)
    original = reference_model.load(weights)
    if exporter is ExporterName.optimum:
        tracing.check_exportable(weights, original.model.config)
    checkpoint = Checkpoint.of(weights, original.model)
    probes = prepare(original.tokenizer)
    exact, passes = None, tuple[Matched, ...]()
    graph: AbstractContextManager[str] = nullcontext(GRAPH)
    if exporter is ExporterName.builder:
        with messages.working(f"the GenAI model builder writes {target.name}"):
            genai_builder.write_graph(weights, folder, target)
        if target.quantization is not None:
            messages.warn(
                "exporter=builder: its graph is compared with the original but not proven, since "
                "a fault of the graph cannot be told from what quantization costs"
            )
    else:
        exported = export(weights, original, checkpoint, folder, target)
        exact = parity.prove(exported, original, checkpoint, folder, target, probes)
        passes, graph = exported.passes, proof_graphs.all_positions(folder)
    expected = reference_model.logits(original.model, checkpoint, [p.prompt_ids for p in probes])
    with graph as name:
        reached = parity.compare(expected, folder, name, probes, target.name)
    _refuse_mismatch(reached, expected, target)
    record = Conversion(
        parity=reached,
        exact_max_abs_diff=exact,
        passes=passes,
        seconds=time.perf_counter() - start,
        peak_rss_mb=None if (peak := peak_rss_bytes()) is None else peak / 1e6,
        onnx_size_mb=sum(file.stat().st_size for file in folder.glob(f"{GRAPH}*")) / 1e6,
    )
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=2))


def _refuse_mismatch(reached: Parity, expected: Sequence[Logits], target: Target) -> None:
    if reached.tokenizer_mismatches:
        raise UserError(
            f"{reached.tokenizer_mismatches} of {len(TEXTS)} probe texts are tokenized or "
            "rendered differently by the GenAI runtime than by transformers: this model's "
            "answers would differ, so it is not converted. Choose a model with another tokenizer"
        )
    if target.precision is Precision.fp32 and target.quantization is None:
        largest = float(max(np.abs(logits).max() for logits in expected))
        parity.refuse_another(reached.max_abs_diff, largest=largest)
