"""What to try in place of a target whose model is not good enough."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from slmflow.config.schema.target import (
    BITS_PER_WEIGHT,
    BLOCK_SIZES,
    Algorithm,
    Exporter,
    ExporterName,
    Precision,
    Provider,
    Quantization,
    Target,
)

_SMALLEST_BLOCK, _TYPICAL_BLOCK = BLOCK_SIZES[:2]
_BALANCED_TARGETS = {Provider.cpu: "target=cpu_balanced"}
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


def suggest(
    target: Target, exporter: Exporter, size_mb: float | None = None
) -> tuple[Suggestion, ...]:
    """Return what rounds less, the smallest change first.

    Each is valid with the rest of the target, or is a target of its own. Empty if nothing can be
    rounded less. size_mb: of the converted model, which a budget that is too small does not bound.
    """
    if target.quantization is None:
        if target.precision is Precision.fp32:
            return ()
        return (Suggestion("more precision", ("target.precision=fp32",)),)
    quantization = target.quantization
    # The builder has neither calibration nor modules at 8 bits.
    has_options = exporter.name is ExporterName.optimum and quantization.bits == 4
    return (
        *_finer_quantization(quantization, has_options),
        *_some_more_bits(quantization, target.provider, has_options, size_mb or 0),
        *_more_bits(quantization, target.provider),
    )


def _finer_quantization(quantization: Quantization, has_options: bool) -> Iterator[Suggestion]:
    """Yield what keeps the bits of all weights."""
    if quantization.block_size > _SMALLEST_BLOCK and not _has_budget(quantization):
        is_large = quantization.block_size > _TYPICAL_BLOCK
        size = _TYPICAL_BLOCK if is_large else _SMALLEST_BLOCK
        yield Suggestion("smaller blocks", (f"{_PREFIX}block_size={size}",))
    if has_options and quantization.algorithm in (Algorithm.rtn, Algorithm.k_quant):
        yield Suggestion("calibrated rounding", (f"{_PREFIX}algorithm=gptq",))
    elif quantization.symmetric:
        yield Suggestion("zero points", (f"{_PREFIX}symmetric=false",))


def _some_more_bits(
    quantization: Quantization, provider: Provider, has_options: bool, size_mb: float
) -> Iterator[Suggestion]:
    """Yield what gives more bits to some weights."""
    if not has_options or quantization.algorithm is Algorithm.hqq:
        return
    if (budget := quantization.budget_mb) is not None:  # it replaces bits_per_weight
        larger = 1.2 * max(budget, size_mb)
        yield Suggestion("a larger size", (f"{_PREFIX}budget_mb={larger:.4g}",))
    elif (bits := quantization.average_bits) is not None:
        if bits < BITS_PER_WEIGHT[1]:
            more = min(bits + 1, BITS_PER_WEIGHT[1])
            yield Suggestion("more bits", (f"{_PREFIX}bits_per_weight={more:g}",))
    elif override := _BALANCED_TARGETS.get(provider, ""):
        yield Suggestion("8 bits where calibration finds them needed", (override,))
    elif not quantization.eight_bit:
        yield Suggestion("8 bits for some modules", (f"{_PREFIX}eight_bit=[*.down_proj]",))


def _has_budget(quantization: Quantization) -> bool:
    return quantization.average_bits is not None or quantization.budget_mb is not None


def _has_given_budget(quantization: Quantization) -> bool:
    return quantization.bits_per_weight is not None or quantization.budget_mb is not None


def _more_bits(quantization: Quantization, provider: Provider) -> Iterator[Suggestion]:
    if quantization.bits == 8:
        override = _UNQUANTIZED_TARGETS.get(provider, "target.quantization=null")
        yield Suggestion("no rounding", (override,))
    elif override := _EIGHT_BIT_TARGETS.get(provider, ""):
        yield Suggestion("8 bits", (override,))
    elif quantization.algorithm is not Algorithm.hqq and not (
        quantization.eight_bit or _has_given_budget(quantization)
    ):
        yield Suggestion("8 bits", (f"{_PREFIX}bits=8",))
