"""Compare what quantization keeps of a model in slmflow and in llama.cpp, at each size.

python -m benchmarks.llama_cpp_quality /checkpoint/folder --output docs/quantization
python -m benchmarks.llama_cpp_quality FOLDER --text wikitext.txt --types Q4_K_M --output trial

A Llama or Phi-3 checkpoint is converted for several targets, and quantized by llama.cpp itself. All
read the same windows of a text, and their logits are compared with those of transformers in fp32.
Needs the packages of `benchmarks.harness.engines.LLAMA_CPP`. Writes NAME.md and NAME.json.
"""

import ctypes
import dataclasses
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
from joblib import cpu_count

from benchmarks.harness.command_line import at_least, create_parser, parse_with_store, run_main
from benchmarks.models import logged_models, stored_models
from benchmarks.reports import page
from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.console import messages, progress_bars
from slmflow.conversion import reference_model
from slmflow.conversion.calibration import text
from slmflow.conversion.proof import fidelity, folder_fidelity, held_out
from slmflow.conversion.proof.fidelity import Fidelity
from slmflow.conversion.proof.reference_logits import Logits
from slmflow.conversion.record import ConversionRecord
from slmflow.errors import UserError
from slmflow.paths import PROJECT
from slmflow.pipeline.results import OnnxModel
from slmflow.reports import markdown

TYPES = ("Q8_0", "Q4_K_M", "Q4_0")
_BUDGET = "target.quantization.budget_mb"
TARGETS = (
    f"cpu_balanced {_BUDGET}=144.8",
    "cpu_balanced",
    f"cpu_int4 {_BUDGET}=91.7",
    "cpu_int4",
    f"cpu_int4 {_BUDGET}=78 target.quantization.smallest_block=16",
    "cpu_int4_rtn",
)
_WINDOW = 512  # tokens
_PACKAGES = ("onnxruntime-genai", "llama-cpp-python", "transformers", "torch")
_HEADER = ["model", "size, MB", "KL, nats", "top-1", "perplexity ratio"]

Windows = Sequence[Sequence[int]]


@dataclass(frozen=True)
class Row:
    """One model: its size in 10^6 bytes, and what it keeps of the original."""

    name: str
    size_mb: float
    fidelity: Fidelity

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        kept = self.fidelity
        return [
            self.name,
            f"{self.size_mb:.1f}",
            f"{kept.mean_kl:.4f} ({kept.mean_kl_low:.4f} to {kept.mean_kl_high:.4f})",
            f"{kept.top1_agreement:.1%}",
            f"{kept.perplexity_ratio:.3f}",
        ]


@dataclass(frozen=True)
class Report:
    """All models, the largest first."""

    model: str
    source: str
    rows: Sequence[Row]

    def markdown(self) -> str:
        """Return the table with notes."""
        notes = [
            page.setup_note(_PACKAGES),
            f"{self.rows[0].fidelity.tokens:,} tokens of {self.source} in windows of {_WINDOW}; KL "
            "divergence from transformers in fp32 with its 95 % interval, share of equal most "
            "likely tokens, perplexity divided by that of transformers",
            "size: graph and weights, or the GGUF file",
        ]
        table = markdown.table(_HEADER, [row.cells() for row in self.rows])
        return page.render(f"{self.model} in slmflow and llama.cpp", table, notes)

    def json(self) -> str:
        """Return every value."""
        fields = dataclasses.asdict(self)
        return json.dumps({**fields, **page.setup_fields(_PACKAGES)}, indent=2)


def measure(weights: Path, file: Path, count: int, types: Sequence[str]) -> list[Row]:
    """Measure all targets, and the given types of llama.cpp, on so many windows of a text.

    Returns the largest model first. Raises UserError if one fails.
    """
    reference = reference_model.load(weights)
    windows = text.windows(
        reference.tokenizer, text.read(file, "--text"), count * _WINDOW, _WINDOW, name="--text"
    )
    checkpoint = CheckpointTensors.for_model(weights, reference.model)
    with held_out.compute_reference(reference, checkpoint, [], windows) as (_, expected):
        rows = [_measure_target(weights, target, windows, expected) for target in TARGETS]
        rows += _measure_llama_cpp(weights, types, windows, expected)
    return sorted(rows, key=lambda row: row.size_mb, reverse=True)


def _measure_target(
    weights: Path, target: str, windows: Windows, expected: Iterable[Logits]
) -> Row:
    overrides = ["model=local", f"model.path={weights}", *f"target={target}".split()]
    logged_models.ensure_logged(overrides)
    onnx, _ = logged_models.find_logged(OnnxModel, overrides)
    kept = folder_fidelity.measure(onnx.folder, windows, expected, target)
    return Row(target, ConversionRecord.read(onnx.folder).onnx_size_mb, kept)


def _measure_llama_cpp(
    weights: Path, types: Sequence[str], windows: Windows, expected: Iterable[Logits]
) -> Iterator[Row]:
    source = stored_models.gguf_model(weights, "F32")
    with tempfile.TemporaryDirectory() as folder:
        for kind in types:
            file = Path(folder, f"{kind}.gguf")
            with progress_bars.spinner(f"llama.cpp quantizes to {kind}"):
                _quantize(source, file, kind)
            name = f"llama.cpp {kind}"
            kept = fidelity.measure(windows, expected, _llama_cpp_logits(file, windows), name)
            yield Row(name, file.stat().st_size / 1e6, kept)


def _quantize(source: Path, file: Path, kind: str) -> None:
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{kind}")
    parameters.nthread = cpu_count()
    files = (str(source).encode(), str(file).encode())
    if llama_cpp.llama_model_quantize(*files, ctypes.byref(parameters)) != 0:
        raise UserError(f"llama.cpp cannot quantize {source} to {kind}")


def _llama_cpp_logits(file: Path, windows: Windows) -> Iterator[Logits]:
    model: Any = llama_cpp.Llama(
        str(file), n_ctx=_WINDOW, n_threads=cpu_count(), logits_all=True, verbose=False
    )
    for ids in windows:
        model.reset()
        model.eval(ids)
        yield np.array(model.scores[: len(ids)], dtype=np.float32)


def _main() -> None:
    parser = create_parser(__doc__)
    parser.add_argument("weights", type=Path, help="folder of a checkpoint")
    parser.add_argument("--text", type=Path, default=PROJECT / "bundled" / "held_out")
    parser.add_argument("--windows", type=at_least(1), default=6)
    parser.add_argument("--types", nargs="+", default=list(TYPES), help="of llama.cpp")
    parser.add_argument("--model", help="name of the model on the page (that of the folder)")
    parser.add_argument("--source", help="name of the text on the page (that of the file)")
    parser.add_argument("--name", default="llama_cpp", help="of the files (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder for the results")
    arguments = parse_with_store(parser)
    weights, file = arguments.weights.absolute(), arguments.text.absolute()
    output = arguments.output.absolute()
    with logged_models.use_tracking_folder(arguments.work / "llama_cpp_quality"):
        rows = measure(weights, file, arguments.windows, arguments.types)
    model, source = arguments.model or weights.name, arguments.source or file.name
    report = Report(model, source, rows)
    page.write(report, output, arguments.name)
    messages.table(report.model, _HEADER, [row.cells() for row in report.rows])


if __name__ == "__main__":
    run_main(_main)
