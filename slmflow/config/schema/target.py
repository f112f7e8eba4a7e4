"""What hardware the ONNX model is for, and what writes it: `target.*` and `exporter.*`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

from omegaconf import MISSING


class Provider(Enum):
    """Execution provider of ONNX Runtime."""

    cpu = "cpu"
    cuda = "cuda"
    dml = "dml"


class Precision(Enum):
    """Floating-point type of the activations and of the weights that are not quantized."""

    fp32 = "fp32"
    fp16 = "fp16"


class Algorithm(Enum):
    """How scales and zero points are chosen.

    rtn: rounding to nearest; k_quant: a search for the least error, slower; hqq: Half-Quadratic
    Quantization, slowest, and slow to run on a CPU.
    """

    rtn = "rtn"
    k_quant = "k_quant"
    hqq = "hqq"


class ExporterName(Enum):
    """What writes the ONNX graph."""

    optimum = "optimum"
    builder = "builder"


@dataclass
class Quantization:
    """Block-wise weight quantization of the MatMul nodes (ONNX Runtime's MatMulNBits).

    accuracy_level: 4 multiplies in int8, 0 to 3 in fp32; below 4, 8 bits are slow on a CPU.
    eight_bit: modules kept at 8 bits, by their names in the checkpoint or by patterns of them, such
    as `lm_head` and `*.down_proj`. embedding: whether the token embedding is quantized too; None is
    only where it is tied to the LM head, so that the two stay one tensor.
    """

    bits: int = 4
    block_size: int = 32
    symmetric: bool = True
    accuracy_level: int = 4
    algorithm: Algorithm = Algorithm.rtn
    eight_bit: list[str] = field(default_factory=list)
    embedding: bool | None = None

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.bits not in (4, 8):
            yield f"target.quantization.bits={self.bits}: must be 4 or 8"
        if self.block_size not in (16, 32, 64, 128, 256):
            yield (
                f"target.quantization.block_size={self.block_size}: must be 16, 32, 64, 128 or 256"
            )
        if self.accuracy_level not in range(5):
            yield f"target.quantization.accuracy_level={self.accuracy_level}: must be 0 to 4"
        if self.bits == 8 and self.eight_bit:
            yield (
                f"target.quantization.eight_bit={self.eight_bit}: with bits=8 every module is at 8 "
                "bits; leave it out, or set bits=4"
            )
        if self.symmetric and self.algorithm is not Algorithm.rtn:
            yield (
                f"target.quantization.symmetric=true: {self.algorithm.value} always finds zero "
                "points; set symmetric=false, or algorithm=rtn"
            )
        if self.algorithm is Algorithm.hqq:
            yield from self._hqq_problems()

    def builder_problems(self) -> Iterator[str]:
        """Yield what exporter=builder would leave out without a word, one sentence each."""
        refused = []
        if self.algorithm is not Algorithm.rtn:
            refused.append(("algorithm", self.algorithm.value, "rtn"))
        if self.eight_bit:
            refused.append(("eight_bit", str(self.eight_bit), "[]"))
        if self.embedding is not None:
            refused.append(("embedding", str(self.embedding).lower(), "null"))
        for key, value, default in refused:
            yield (
                f"target.quantization.{key}={value}: exporter=builder has no such option; set "
                f"{key}={default}, or exporter=optimum"
            )

    def _hqq_problems(self) -> Iterator[str]:
        """Yield what onnxruntime cannot do with float zero points, which only hqq has."""
        if self.bits == 8 or self.eight_bit:
            key, value = ("bits", 8) if self.bits == 8 else ("eight_bit", self.eight_bit)
            yield (
                f"target.quantization.{key}={value}: onnxruntime runs hqq at 4 bits only; "
                "set algorithm=rtn or k_quant, or keep all at 4 bits"
            )
        if self.accuracy_level != 0:
            yield (
                f"target.quantization.accuracy_level={self.accuracy_level}: onnxruntime ignores it "
                "for hqq, and on a CPU unpacks the weights anew for each token, many times slower "
                "than rtn or k_quant; set accuracy_level=0 if you want hqq nevertheless"
            )
        if self.embedding:
            yield (
                "target.quantization.embedding=true: onnxruntime has no embedding with hqq's zero "
                "points; set embedding=null or false, or algorithm=rtn or k_quant"
            )


@dataclass
class Target:
    """Execution provider, precision, quantization, and the package that serves them.

    `runtime` is a package of the version of onnxruntime-genai installed here, or `name==version`.
    """

    name: str = MISSING
    provider: Provider = MISSING
    precision: Precision = MISSING
    quantization: Quantization | None = None
    runtime: str = MISSING

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with these values, one sentence each."""
        if self.provider is Provider.cpu and self.precision is Precision.fp16:
            yield "target.precision=fp16: the cpu provider computes in fp32"
        if self.runtime.partition("==")[0] != RUNTIMES[self.provider]:
            yield (
                f"target.runtime={self.runtime!r}: the {self.provider.value} provider is in "
                f"the package {RUNTIMES[self.provider]}"
            )
        if self.quantization is not None:
            yield from self.quantization.problems()


RUNTIMES = {
    Provider.cpu: "onnxruntime-genai",
    Provider.cuda: "onnxruntime-genai-cuda",
    Provider.dml: "onnxruntime-genai-directml",
}


@dataclass
class Exporter:
    """What writes the ONNX graph."""

    name: ExporterName = MISSING
