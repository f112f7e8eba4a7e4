"""The record of a conversion, written next to the graph as `conversion.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from slmflow.conversion.passes.graph import PassReport
from slmflow.conversion.proof.fidelity import Fidelity
from slmflow.conversion.proof.parity import Parity

RECORD_FILE = "conversion.json"


@dataclass(frozen=True)
class ConversionRecord:
    """Quality and cost of a conversion.

    parity, fidelity: of the finished model; rtn_fidelity: of the weights rounded to nearest with
    the same bits and blocks, None unless the target's algorithm is gptq; exact_max_abs_diff:
    largest difference of any logit in the proof, None without one (exporter=builder); passes:
    report of each graph pass, empty for exporter=builder; seconds: wall time; peak_rss_mb: peak
    resident memory of the process in 10^6 bytes, None if the system does not report it;
    onnx_size_mb: graph and weights on disk in 10^6 bytes; ignored_settings: generation settings of
    the checkpoint that hold in the transformers flavor only, with their values; notes: what to know
    about the folder where it is loaded without slmflow; adapters: exact_max_abs_diff of the graph
    with each separate adapter, by name.
    """

    parity: Parity
    fidelity: Fidelity
    rtn_fidelity: Fidelity | None
    exact_max_abs_diff: float | None
    passes: tuple[PassReport, ...]
    seconds: float
    peak_rss_mb: float | None
    onnx_size_mb: float
    ignored_settings: dict[str, Any]
    notes: tuple[str, ...]
    adapters: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the record of a converted folder."""
        fields = json.loads((folder / RECORD_FILE).read_text())
        nested = {
            "parity": Parity(**fields["parity"]),
            "fidelity": Fidelity(**fields["fidelity"]),
            "rtn_fidelity": Fidelity(**rtn) if (rtn := fields["rtn_fidelity"]) else None,
            "passes": tuple(PassReport(**report) for report in fields["passes"]),
            "notes": tuple(fields["notes"]),
        }
        return cls(**(fields | nested))

    def write(self, folder: Path) -> None:
        """Write the record into a converted folder."""
        (folder / RECORD_FILE).write_text(json.dumps(asdict(self), indent=2))

    def metrics(self) -> dict[str, float]:
        """Return the measured values under the metric names that convert logs."""
        rtn = asdict(self.rtn_fidelity) if self.rtn_fidelity else {}
        values = {
            **{f"parity.{name}": value for name, value in asdict(self.parity).items()},
            **{f"fidelity.{name}": value for name, value in asdict(self.fidelity).items()},
            **{f"fidelity.rtn_{name}": value for name, value in rtn.items()},
            "parity.exact_max_abs_diff": self.exact_max_abs_diff,
            **{f"parity.exact_max_abs_diff.{n}": value for n, value in self.adapters.items()},
            **{f"passes.{report.name}": report.matched for report in self.passes},
            "convert.seconds": self.seconds,
            "convert.peak_rss_mb": self.peak_rss_mb,
            "onnx_size_mb": self.onnx_size_mb,
        }
        return {name: value for name, value in values.items() if value is not None}
