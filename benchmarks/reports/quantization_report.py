"""The quantization options that are measured, and the page that shows what they give."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata

from benchmarks.harness.series import FIGURES, Figure, Series, median_of_ratios, middle
from slmflow.metrics.figures import FlavorFigures
from slmflow.reports import markdown
from slmflow.system import machine
from slmflow.system.git_state import git_state

PREFILL, DECODE, _ = FIGURES

PACKAGES = ("onnxruntime", "onnxruntime-genai", "torch", "transformers")

HEADER = (
    "option",
    "size, MB",
    "KL, nats",
    "top-1",
    "exact match",
    "token F1",
    "perplexity",
    "prefill, tokens/s",
    "decode, tokens/s",
)


@dataclass(frozen=True)
class Option:
    """A target and what is changed of its quantization, e.g. `bits=8`."""

    changes: tuple[str, ...] = ()
    target: str = "cpu_int4"

    @property
    def name(self) -> str:
        """What is changed, or the target where nothing is."""
        return " ".join(self.changes) or f"target={self.target}"

    @property
    def overrides(self) -> list[str]:
        """The arguments of a step."""
        changes = [f"target.quantization.{change}" for change in self.changes]
        return [f"target={self.target}", *changes]


BASE = Option()

OPTIONS = (
    Option(target="cpu_fp32"),
    BASE,
    Option(("block_size=16",)),
    Option(("block_size=64",)),
    Option(("block_size=128",)),
    Option(("block_size=256",)),
    Option(("symmetric=false",)),
    Option(("algorithm=k_quant", "symmetric=false")),
    Option(("algorithm=hqq", "symmetric=false", "accuracy_level=0")),
    Option(("accuracy_level=0",)),
    Option(("eight_bit=[lm_head]",)),
    Option(("eight_bit=[*.down_proj]",)),
    Option(("embedding=true",)),
    Option(("bits=8",)),
)


@dataclass(frozen=True)
class Measured:
    """What one option gives.

    onnx_size_mb: graph and weights, 10^6 bytes; mean_kl: nats; top1_agreement: 0 to 1; figures: of
    the GenAI flavor; base, series: the base and this option, timed in alternating rounds.
    """

    option: Option
    onnx_size_mb: float
    mean_kl: float
    top1_agreement: float
    figures: FlavorFigures
    base: Series
    series: Series

    def cells(self) -> list[str]:
        """Return the line of the table."""
        return [
            f"`{self.option.name}`",
            f"{self.onnx_size_mb:.2f}",
            f"{self.mean_kl:.2g}",
            f"{self.top1_agreement:.1%}",
            self.figures.written("exact_match"),
            self.figures.written("token_f1"),
            self.figures.written("perplexity"),
            self._speed(PREFILL),
            self._speed(DECODE),
        ]

    def ratio(self, figure: Figure) -> float | None:
        """Return the median over the rounds of a figure of this option over the base's."""
        return median_of_ratios(figure.values(self.series), figure.values(self.base))

    def _speed(self, figure: Figure) -> str:
        value = middle(figure.values(self.series))
        return "-" if value is None else f"{value:,.0f} ({self.ratio(figure):.2f})"


@dataclass(frozen=True)
class Report:
    """One measurement; `rows` holds the base too."""

    rows: tuple[Measured, ...]

    @property
    def title(self) -> str:
        """What was measured."""
        return "Quantization options on tiny_phi3"

    def table(self) -> list[list[str]]:
        """Return the heads of the columns, then a line per option."""
        return [list(HEADER), *(row.cells() for row in self.rows)]

    def markdown(self) -> str:
        """Return the page."""
        header, *lines = self.table()
        notes = "\n".join(f"- {note}" for note in self._notes())
        return _PAGE.format(table=markdown.table(header, lines), notes=notes)

    def json(self) -> str:
        """Return every raw value."""
        fields = {
            "machine": machine.description(),
            "versions": _versions(),
            "git": git_state(),
            "options": [
                {
                    **dataclasses.asdict(row),
                    f"prefill, median of ratios to {BASE.name}": row.ratio(PREFILL),
                    f"decode, median of ratios to {BASE.name}": row.ratio(DECODE),
                }
                for row in self.rows
            ],
        }
        return json.dumps(fields, indent=2)

    def _notes(self) -> Iterator[str]:
        series, figures = self.rows[0].series, self.rows[0].figures
        versions = ", ".join(f"{name} {version}" for name, version in _versions().items())
        yield f"{datetime.now(UTC):%Y-%m-%d}, {machine.description()}, {versions}"
        yield (
            "size: graph and weights; KL (mean) and top-1: next-token distributions of the "
            "original against the converted model's, over the probe texts of `convert`"
        )
        yield (
            f"exact match, token F1 and perplexity: the GenAI flavor on {figures.n} questions of "
            "the evaluation data"
        )
        yield (
            f"speed: a prompt of {series.prompt_tokens} tokens and {series.new_tokens} more after "
            f"it; median of {len(series.prefill_s)} rounds, each of them alternating with "
            f"`{BASE.name}`; in brackets the median of the ratios to it, for `{BASE.name}` to "
            "itself: what that is off 1, and more, is noise on a model this small"
        )


def _versions() -> dict[str, str]:
    return {package: metadata.version(package) for package in PACKAGES}


_PAGE = """# Quantization options

What each option of `target.quantization` costs and gives on the bundled model. Every line but the
first is `target=cpu_int4` (4 bits, symmetric blocks of 32, rounded to nearest) with what the line
names changed; each of a line's words goes on the command line with its own `-P`, such as
`-P target.quantization.bits=8`, in quotes where it has brackets. Made by
`python -m benchmarks.quantization --output docs --rounds 9`, which runs the project's own steps.

| option | values |
| --- | --- |
| `bits` | 4 or 8 |
| `block_size` | weights that share a scale: 16, 32, 64, 128 or 256 |
| `symmetric` | `true`, or `false` with a zero point for each block |
| `accuracy_level` | 4 multiplies in int8; 0 to 3 in fp32, the three alike on a CPU |
| `algorithm` | `rtn`, rounding to nearest; `k_quant` and `hqq` search, with `symmetric=false` |
| `eight_bit` | modules kept at 8 bits: `[lm_head, "*.down_proj"]` |
| `embedding` | `true`, `false`, or `null`: quantized only where it is the LM head's tensor too |

{table}

{notes}

## What to choose

- Begin with `target=cpu_int4`. The KL divergence shows finer differences than the answers do: the
  bundled model is small and sure of its few facts, a large model is neither. Measure your own.
- If its answers suffer, give bits back: smaller blocks store more scales, `eight_bit` keeps the
  modules you name at 8 bits, and `bits=8` keeps all of them. `k_quant` searches for the scales and
  takes its time while converting, not while answering; it needs zero points (`symmetric=false`).
- A block that does not divide a row is stored with padding. The bundled model's rows have 192 and
  384 weights, so 128 and 256 save nothing here as they do where widths are multiples of them.
- `embedding=true` is for models whose vocabulary is large for their size. `accuracy_level=0` rounds
  the weights alike but multiplies in fp32. `hqq` has float zero points, for which onnxruntime has
  no int8 kernel: on a CPU it is slow.
"""
