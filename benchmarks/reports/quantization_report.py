"""The quantization options to measure, and the page that compares them."""

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.timings import (
    METRICS,
    EngineTimings,
    Metric,
    median_of_ratios,
    median_or_none,
)
from benchmarks.reports import page
from slmflow.metrics.model_metrics import ModelMetrics
from slmflow.reports import markdown
from slmflow.reports.formatting import format_metric

# A template with the fields `table` and `notes`.
_PAGE = Path(__file__).with_name("quantization_page.md")

PREFILL, DECODE, _ = METRICS

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
    """A target with changes to its quantization, such as `bits=8`."""

    changes: tuple[str, ...] = ()
    target: str = "cpu_int4_rtn"

    @property
    def name(self) -> str:
        """The changes, or the target if there are none."""
        return " ".join(self.changes) or f"target={self.target}"

    @property
    def overrides(self) -> list[str]:
        """The overrides of a step."""
        changes = [f"target.quantization.{change}" for change in self.changes]
        return [f"target={self.target}", *changes]


BASE = Option()

OPTIONS = (
    Option(target="cpu_fp32"),
    Option(target="cpu_balanced"),
    Option(target="cpu_int4"),
    BASE,
    Option(("algorithm=gptq",)),
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
class MeasuredOption:
    """Results of one option.

    onnx_size_mb: graph and weights, 10^6 bytes; mean_kl: nats; top1_agreement: 0 to 1; metrics:
    those of the GenAI flavor; base_timings, timings: the base and this option, in alternating
    rounds.
    """

    option: Option
    onnx_size_mb: float
    mean_kl: float
    top1_agreement: float
    metrics: ModelMetrics
    base_timings: EngineTimings
    timings: EngineTimings

    def cells(self) -> list[str]:
        """Return the row of the table."""
        return [
            f"`{self.option.name}`",
            f"{self.onnx_size_mb:.2f}",
            f"{self.mean_kl:.2g}",
            f"{self.top1_agreement:.1%}",
            format_metric(self.metrics, "exact_match").text,
            format_metric(self.metrics, "token_f1").text,
            format_metric(self.metrics, "perplexity").text,
            self._speed(PREFILL),
            self._speed(DECODE),
        ]

    def ratio(self, metric: Metric) -> float | None:
        """Return the median over the rounds of this option's metric over the base's."""
        return median_of_ratios(metric.values(self.timings), metric.values(self.base_timings))

    def _speed(self, metric: Metric) -> str:
        value = median_or_none(metric.values(self.timings))
        return "-" if value is None else f"{value:,.0f} ({self.ratio(metric):.2f})"


@dataclass(frozen=True)
class Report:
    """One measurement; the base is one of the options."""

    options: tuple[MeasuredOption, ...]
    title: str = "Quantization options on tiny_phi3"

    def rows(self) -> list[list[str]]:
        """Return the table, a row per option."""
        return [option.cells() for option in self.options]

    def markdown(self) -> str:
        """Return the page."""
        table = markdown.table(HEADER, self.rows())
        return _PAGE.read_text().format(table=table, notes=page.bullets(self._notes()))

    def json(self) -> str:
        """Return every raw value."""
        fields = {
            **page.setup_fields(PACKAGES),
            "options": [
                {
                    **dataclasses.asdict(option),
                    f"prefill, median of ratios to {BASE.name}": option.ratio(PREFILL),
                    f"decode, median of ratios to {BASE.name}": option.ratio(DECODE),
                }
                for option in self.options
            ],
        }
        return json.dumps(fields, indent=2)

    def _notes(self) -> Iterator[str]:
        timings, metrics = self.options[0].timings, self.options[0].metrics
        yield page.setup_note(PACKAGES)
        yield (
            "size: graph and weights; KL (mean) and top-1: next-token distributions of the "
            "converted model against the reference, over the probe texts of `convert`"
        )
        yield (
            f"exact match, token F1 and perplexity: the GenAI flavor on {metrics.n} questions of "
            "the evaluation data"
        )
        yield (
            f"speed: a prompt of {timings.prompt_tokens} tokens and {timings.new_tokens} new "
            f"tokens; median of {len(timings.prefill_s)} rounds that alternate with "
            f"`{BASE.name}`; in brackets the median of the ratios to it. The ratio of "
            f"`{BASE.name}` to itself shows the noise on a model this small"
        )
