"""What to try in place of a target whose model is not good enough."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slmflow.config.schema.target import (
    Algorithm,
    Exporter,
    ExporterName,
    Precision,
    Provider,
    Quantization,
    Target,
)

_SMALLEST_BLOCK, _TYPICAL_BLOCK = 16, 32
_EIGHT_BIT_TARGETS = {Provider.cpu: "target=cpu_int8"}
_UNQUANTIZED_TARGETS = {Provider.cpu: "target=cpu_fp32", Provider.cuda: "target=cuda_fp16"}
_PREFIX = "target.quantization."


@dataclass(frozen=True)
class Suggestion:
    """What to try in place of a model that is not good enough, and the overrides for it."""

    change: str
    overrides: tuple[str, ...]

    def __str__(self) -> str:
        """Return the change with its overrides."""
        return f"{self.change} ({' '.join(self.overrides)})"


def describe(suggestions: Iterable[Suggestion]) -> str:
    """Return a sentence of one suggestion or more."""
    *others, last = map(str, suggestions)
    return f"Try {' or '.join(part for part in (', '.join(others), last) if part)}."


def suggest(target: Target, exporter: Exporter) -> tuple[Suggestion, ...]:
    """Return what rounds less, the smallest change first.

    Each is valid with the rest of the target, or is a target of its own. Empty if nothing can be
    rounded less.
    """
    if target.quantization is None:
        if target.precision is Precision.fp32:
            return ()
        return (Suggestion("more precision", ("target.precision=fp32",)),)
    return (
        *_finer_quantization(target.quantization, exporter),
        *_more_bits(target.quantization, target.provider),
    )


def _finer_quantization(quantization: Quantization, exporter: Exporter) -> Iterator[Suggestion]:
    """Yield what keeps the bits of most weights."""
    if quantization.block_size > _SMALLEST_BLOCK:
        is_large = quantization.block_size > _TYPICAL_BLOCK
        size = _TYPICAL_BLOCK if is_large else _SMALLEST_BLOCK
        yield Suggestion("smaller blocks", (f"{_PREFIX}block_size={size}",))
    zero_points = (f"{_PREFIX}symmetric=false",) if quantization.symmetric else ()
    has_options = exporter.name is ExporterName.optimum  # the builder has neither of these
    if has_options and quantization.bits == 4 and quantization.algorithm is Algorithm.rtn:
        yield Suggestion("better scales", (f"{_PREFIX}algorithm=k_quant", *zero_points))
    elif zero_points:
        yield Suggestion("zero points", zero_points)
    is_hqq = quantization.algorithm is Algorithm.hqq
    if has_options and quantization.bits == 4 and not quantization.eight_bit and not is_hqq:
        yield Suggestion("8 bits for some modules", (f"{_PREFIX}eight_bit=[*.down_proj]",))


def _more_bits(quantization: Quantization, provider: Provider) -> Iterator[Suggestion]:
    if quantization.bits == 8:
        override = _UNQUANTIZED_TARGETS.get(provider, "target.quantization=null")
        yield Suggestion("no rounding", (override,))
    elif override := _EIGHT_BIT_TARGETS.get(provider, ""):
        yield Suggestion("8 bits", (override,))
    elif quantization.algorithm is not Algorithm.hqq and not quantization.eight_bit:
        yield Suggestion("8 bits", (f"{_PREFIX}bits=8",))
