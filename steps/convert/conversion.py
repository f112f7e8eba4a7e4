"""From a snapshot folder to an ONNX model that is proven equal, and the record of how it went."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from steps.common.config import ExporterName, Precision, Target
from steps.common.console import working
from steps.common.errors import UserError
from steps.common.memory import peak_rss_bytes
from steps.convert import export, parity
from steps.convert.parity import Parity, Reference
from steps.convert.probes import PROBES

RECORD = "conversion.json"

# fp32 kernels differ in the order of their sums; anything above this is another computation.
FP32_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Conversion:
    """How a conversion went; kept beside the graph as `conversion.json`.

    parity: of the finished model; seconds: wall time; peak_rss_mb: peak resident memory of the
    process in 10^6 bytes, None where the system does not tell; onnx_size_mb: graph and weights
    on disk in 10^6 bytes.
    """

    parity: Parity
    seconds: float
    peak_rss_mb: float | None
    onnx_size_mb: float

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the record of a converted folder."""
        fields = json.loads((folder / RECORD).read_text())
        return cls(**(fields | {"parity": Parity(**fields["parity"])}))

    def metrics(self) -> dict[str, float]:
        """Return the figures that were measured, under the names that convert logs."""
        figures = {
            **{f"parity.{name}": value for name, value in asdict(self.parity).items()},
            "convert.seconds": self.seconds,
            "convert.peak_rss_mb": self.peak_rss_mb,
            "onnx_size_mb": self.onnx_size_mb,
        }
        return {name: value for name, value in figures.items() if value is not None}


def convert_model(weights: Path, folder: Path, target: Target, exporter: ExporterName) -> None:
    """Write the ONNX model of a snapshot folder into `folder`, with its record.

    Raises UserError where the exporter does not know the architecture, and where the result is
    not the original: logits at fp32 off by more than `FP32_TOLERANCE`, or a probe text tokenized
    differently.
    """
    start = time.perf_counter()
    references = parity.run_original(weights, PROBES)
    if exporter is ExporterName.builder:
        with working(f"the GenAI model builder writes {target.name}"):
            export.build_with_genai(weights, folder, target)
    else:
        _convert_with_optimum(weights, folder, target, references)
    reached = parity.compare(references, folder, target.name)
    _refuse_mismatch(reached, exact=_is_fp32(target))
    record = Conversion(
        parity=reached,
        seconds=time.perf_counter() - start,
        peak_rss_mb=None if (peak := peak_rss_bytes()) is None else peak / 1e6,
        onnx_size_mb=sum(f.stat().st_size for f in folder.glob(f"{export.GRAPH}*")) / 1e6,
    )
    (folder / RECORD).write_text(json.dumps(asdict(record), indent=2))


def _convert_with_optimum(
    weights: Path, folder: Path, target: Target, references: list[Reference]
) -> None:
    with working("optimum exports the graph in fp32"):
        export.export_with_optimum(weights, folder)
        export.write_genai_config(weights, folder, target)
    if _is_fp32(target):
        return
    # The graph itself must be right before rounding hides what is wrong with it.
    _refuse_mismatch(parity.compare(references, folder, "graph in fp32"), exact=True)
    with working(f"quantizing for {target.name}"):
        # Imported here: an fp32 target needs no quantizer.
        from steps.convert import quantize

        quantize.to_target(folder, target)


def _is_fp32(target: Target) -> bool:
    return target.precision is Precision.fp32 and target.quantization is None


def _refuse_mismatch(reached: Parity, *, exact: bool) -> None:
    if reached.tokenizer_mismatches:
        raise UserError(
            f"{reached.tokenizer_mismatches} of {len(PROBES)} probe texts are tokenized or "
            "rendered differently by the GenAI runtime than by transformers: this model's "
            "answers would differ, so it is not converted. Choose a model with another tokenizer"
        )
    if exact and not reached.max_abs_diff <= FP32_TOLERANCE:
        raise UserError(
            f"the ONNX graph is not the original: its fp32 logits differ by "
            f"{reached.max_abs_diff:.2g}, allowed is {FP32_TOLERANCE:g}. "
            "Try the other exporter (exporter=builder or exporter=optimum)"
        )
