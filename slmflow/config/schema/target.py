"""The hardware that the ONNX model is for, and its exporter: `target.*`, `exporter.*`."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

from slmflow.config.schema.fields import Kind, config_key


class Provider(Enum):
    """Execution provider of ONNX Runtime."""

    cpu = "cpu"
    cuda = "cuda"
    dml = "dml"


class Precision(Enum):
    """Floating-point type of activations and unquantized weights."""

    fp32 = "fp32"
    fp16 = "fp16"


class Algorithm(Enum):
    """How scales and zero points are computed.

    rtn: round to nearest; k_quant: search for the least error, slower; hqq: Half-Quadratic
    Quantization, slowest, and slow to run on a CPU; gptq: round with error feedback on calibration
    text.
    """

    rtn = "rtn"
    k_quant = "k_quant"
    hqq = "hqq"
    gptq = "gptq"


DEFAULT_BITS_PER_WEIGHT = 4.5
"""The size of llama.cpp's Q4_0."""

BLOCK_SIZES = (16, 32, 64, 128, 256)
"""Weights that share a scale, as ONNX Runtime's kernels take them."""

BITS_PER_WEIGHT = (4, 9)
"""Bounds of `bits_per_weight`: 4 bits and no scale, which is too few; 8 bits and their scales."""


class ExporterName(Enum):
    """What writes the ONNX graph."""

    optimum = "optimum"
    builder = "builder"


@dataclass
class Quantization:
    """Block-wise weight quantization of the MatMul nodes (ONNX Runtime's MatMulNBits)."""

    bits: int = config_key(Kind.value, "bits of a weight: 4 or 8", 4)
    block_size: int = config_key(Kind.value, "weights that share a scale", 32)
    symmetric: bool = config_key(Kind.value, "whether blocks have no zero point", True)
    accuracy_level: int = config_key(
        Kind.value, "4 multiplies in int8, 0 to 3 in fp32, where 8 bits are slow on a CPU", 4
    )
    algorithm: Algorithm = config_key(
        Kind.value, "how scales and zero points are computed", Algorithm.rtn
    )
    eight_bit: list[str] = config_key(
        Kind.list,
        "modules kept at 8 bits, by name in the checkpoint or pattern: [lm_head, *.down_proj]",
        list,
    )
    embedding: bool | None = config_key(
        Kind.value,
        "whether the token embedding is quantized; null: only if it shares the LM head's tensor",
        None,
    )
    bits_per_weight: float | None = config_key(
        Kind.value,
        "average bits of a quantized weight, scales included, which calibration shares out among "
        "the modules by their sensitivity; null: 4.5 with algorithm=gptq at 4 bits",
        None,
    )
    budget_mb: float | None = config_key(
        Kind.value, "size of graph and weights, in 10^6 bytes, in place of bits_per_weight", None
    )
    smallest_block: int = config_key(
        Kind.value,
        "smallest blocks that calibration may choose at 4 bits: smaller ones are more exact, but "
        "slower",
        32,
    )

    @property
    def average_bits(self) -> float | None:
        """Bits per weight for calibration to share out, None if all modules have the same."""
        is_mixed = self.algorithm is Algorithm.gptq and self.bits == 4
        return (
            DEFAULT_BITS_PER_WEIGHT
            if is_mixed and self.bits_per_weight is None
            else self.bits_per_weight
        )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.bits not in (4, 8):
            yield f"target.quantization.bits={self.bits}: must be 4 or 8"
        for key in ("block_size", "smallest_block"):
            if (size := getattr(self, key)) not in BLOCK_SIZES:
                yield f"target.quantization.{key}={size}: must be 16, 32, 64, 128 or 256"
        if self.accuracy_level not in range(5):
            yield f"target.quantization.accuracy_level={self.accuracy_level}: must be 0 to 4"
        if self.bits == 8 and self.eight_bit:
            yield (
                f"target.quantization.eight_bit={self.eight_bit}: with bits=8 every module is at 8 "
                "bits; leave it out, or set bits=4"
            )
        if self.symmetric and self.algorithm in (Algorithm.k_quant, Algorithm.hqq):
            yield (
                f"target.quantization.symmetric=true: {self.algorithm.value} always has zero "
                "points; set symmetric=false, or algorithm=rtn"
            )
        if self.algorithm is Algorithm.hqq:
            yield from self._hqq_problems()
        yield from self._budget_problems()

    def builder_problems(self) -> Iterator[str]:
        """Yield one message for each option that exporter=builder would ignore silently."""
        unsupported = []
        if self.algorithm is not Algorithm.rtn:
            unsupported.append(("algorithm", self.algorithm.value, "rtn"))
        if self.eight_bit:
            unsupported.append(("eight_bit", str(self.eight_bit), "[]"))
        if self.embedding is not None:
            unsupported.append(("embedding", str(self.embedding).lower(), "null"))
        for key, value, default in unsupported:
            yield (
                f"target.quantization.{key}={value}: exporter=builder has no such option; set "
                f"{key}={default}, or exporter=optimum"
            )

    def _budget_problems(self) -> Iterator[str]:
        """Yield what contradicts a given size, and a size that is out of range."""
        budgets = {"bits_per_weight": self.bits_per_weight, "budget_mb": self.budget_mb}
        given = {key: value for key, value in budgets.items() if value is not None}
        if not given:
            return
        named = " and ".join(f"target.quantization.{key}={value}" for key, value in given.items())
        if self.algorithm is not Algorithm.gptq:
            yield (
                f"{named}: {self.algorithm.value} cannot tell which modules need more bits; set "
                "algorithm=gptq, or null here (target=cpu_int4_rtn has no size)"
            )
        if self.bits == 8:
            yield (
                f"{named}: with bits=8 every module is at 8 bits, so there is nothing to share "
                "out; set bits=4, or null here"
            )
        low, high = BITS_PER_WEIGHT
        bits, size = self.bits_per_weight, self.budget_mb
        if bits is not None and not low < bits <= high:  # nan too
            yield (
                f"target.quantization.bits_per_weight={bits}: must be above {low} and at most "
                f"{high}, scales included"
            )
        if size is not None and not (size > 0 and math.isfinite(size)):
            yield f"target.quantization.budget_mb={size}: must be a finite number above 0"

    def _hqq_problems(self) -> Iterator[str]:
        """Yield what onnxruntime does not support for the float zero points of hqq."""
        if self.bits == 8 or self.eight_bit:
            key, value = ("bits", 8) if self.bits == 8 else ("eight_bit", self.eight_bit)
            yield (
                f"target.quantization.{key}={value}: onnxruntime runs hqq at 4 bits only; "
                "set algorithm=rtn or k_quant, or keep all at 4 bits"
            )
        if self.accuracy_level != 0:
            yield (
                f"target.quantization.accuracy_level={self.accuracy_level}: onnxruntime ignores it "
                "for hqq, and on a CPU unpacks the weights again for each token, many times slower "
                "than rtn or k_quant; set accuracy_level=0 to use hqq nevertheless"
            )
        if self.embedding:
            yield (
                "target.quantization.embedding=true: onnxruntime supports no embedding with hqq's "
                "zero points; set embedding=null or false, or algorithm=rtn or k_quant"
            )


@dataclass
class Target:
    """The hardware that the ONNX model is converted for."""

    name: str = config_key(Kind.text, "name of the target")
    provider: Provider = config_key(Kind.value, "execution provider of ONNX Runtime")
    precision: Precision = config_key(
        Kind.value, "floating-point type of activations and unquantized weights"
    )
    quantization: Quantization | None = config_key(
        Kind.section, "how the weights are quantized; null keeps them as they are", None
    )
    runtime: str = config_key(
        Kind.text, "package that runs the model, in the installed version or as name==version"
    )

    def problems(self) -> Iterator[str]:
        """Yield one message for each invalid value."""
        if self.provider is Provider.cpu and self.precision is Precision.fp16:
            yield "target.precision=fp16: the cpu provider computes in fp32"
        if self.runtime.partition("==")[0] != RUNTIMES[self.provider]:
            yield (
                f"target.runtime={self.runtime!r}: the {self.provider.value} provider is in "
                f"the package {RUNTIMES[self.provider]}"
            )
        if self.quantization is not None:
            yield from self.quantization.problems()

    @property
    def is_calibrated(self) -> bool:
        """Whether calibration text shapes the model."""
        return self.quantization is not None and self.quantization.algorithm is Algorithm.gptq


RUNTIMES = {
    Provider.cpu: "onnxruntime-genai",
    Provider.cuda: "onnxruntime-genai-cuda",
    Provider.dml: "onnxruntime-genai-directml",
}


@dataclass
class Exporter:
    """What writes the ONNX graph."""

    name: ExporterName = config_key(Kind.value, "what writes the ONNX graph")
