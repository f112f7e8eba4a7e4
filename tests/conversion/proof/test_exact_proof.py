"""The exact proof of models whose weights have different schemes and coded scales."""

import itertools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.config.schema.target import Algorithm, Precision
from slmflow.conversion import optimum_export, reference_model
from slmflow.conversion.proof import exact_proof, graph_variants, reference_logits
from slmflow.conversion.proof.runtime_process import Call, run_calls
from slmflow.conversion.quantization.blockwise import QuantizedWeight, dequantize
from slmflow.conversion.quantization.schemes import ScaleType, Scheme
from tests.conversion import architectures
from tests.conversion.architectures import FUSED
from tests.conversion.conversions import target
from tests.conversion.quantization.coded_rounding import quantize_as

PROMPTS = [architectures.prompt(length) for length in (9, 3, 30, 17)]

# One of them is rounded to nearest, as a module that calibration leaves alone.
VARIANTS = [
    {"bits": 4, "block_size": 32, "symmetric": True},
    {"bits": 8, "block_size": 64, "symmetric": False},
    {"bits": 4, "block_size": 16, "symmetric": False},
    {"algorithm": Algorithm.rtn, "scale_type": ScaleType.float32},
]


class Converted:
    """A random model of an architecture, written with a mixture of schemes."""

    def __init__(self, name: str, folder: Path, target_name: str) -> None:
        weights = architectures.save_random_model(FUSED[name], folder / "weights")
        self.folder, self.target = folder / "onnx", target(target_name)
        self.folder.mkdir()
        assert self.target.quantization is not None
        self.target.quantization.algorithm = Algorithm.gptq
        self.reference = reference_model.load(weights)
        self.checkpoint = CheckpointTensors.for_model(weights, self.reference.model)
        rewritten = optimum_export.trace_and_rewrite(
            weights, self.reference, self.folder, self.target
        )
        chosen = optimum_export.choose_schemes(rewritten, self.target)
        self.schemes = self._mix(chosen)
        self.quantized = {
            weight: self._quantize(scheme)
            for weight, scheme in self.schemes.items()
            if scheme.algorithm is Algorithm.gptq
        }
        self.exported = optimum_export.write(
            rewritten, self.checkpoint, self.schemes, self.quantized, self.folder, self.target
        )

    @property
    def is_fp16(self) -> bool:
        return self.target.precision is Precision.fp16

    def stored(self) -> graph_variants.StoredWeights:
        """Return the weights as they are in the folder."""
        return graph_variants.StoredWeights(
            self.exported, self.checkpoint, self.folder, fp16=self.is_fp16
        )

    def prove(self) -> float:
        """Return the largest difference of the exact graph's logits."""
        return exact_proof.prove(self.exported, self.reference, self.folder, self.target, PROMPTS)

    def _mix(self, chosen: Mapping[str, Scheme]) -> dict[str, Scheme]:
        mixed = {}
        for (name, scheme), variant in zip(chosen.items(), itertools.cycle(VARIANTS), strict=False):
            mixed[name] = replace(scheme, **variant)  # type: ignore[arg-type]
            if self.is_fp16:
                mixed[name] = replace(mixed[name], scale_type=ScaleType.float16)
        return mixed

    def _quantize(self, scheme: Scheme) -> QuantizedWeight:
        source = scheme.source
        rows = self.checkpoint[source.name][source.start : source.stop]
        quantized = quantize_as(replace(scheme, scale_type=ScaleType.int8), rows)
        if scheme.scale_type is ScaleType.int8:
            return quantized
        scales = quantized.scales.astype(np.float16).astype(np.float32)
        return replace(quantized, scales=scales, coded_scales=None)


# phi3 has packed projections, whose rows have schemes of their own; llama has a tied embedding.
@pytest.mark.parametrize("target_name", ["cpu_int4_rtn", "cuda_int4"])
@pytest.mark.parametrize("name", ["phi3", "llama"])
def test_mixed_schemes_are_proven(tmp_path: Path, name: str, target_name: str) -> None:
    converted = Converted(name, tmp_path, target_name)

    assert converted.prove() < 1e-3

    algorithms = {scheme.algorithm for scheme in converted.schemes.values()}
    assert algorithms == {Algorithm.gptq, Algorithm.rtn}
    stored = converted.stored()
    for weight, quantized in converted.quantized.items():
        source = converted.schemes[weight].source
        for alias in converted.checkpoint.tied_names(source.name):
            rows = stored[alias][source.start : source.stop]
            np.testing.assert_array_equal(rows, dequantize(quantized))


def test_served_graph_computes_with_the_stored_weights(tmp_path: Path) -> None:
    """It multiplies in int8, which changes its logits far less than the rounded weights do."""
    converted = Converted("llama", tmp_path, "cpu_int4_rtn")
    model = converted.reference.model

    with graph_variants.all_positions(converted.folder) as graph:
        calls = [Call("logits", [prompt]) for prompt in PROMPTS]
        served = np.concatenate(list(run_calls(converted.folder, graph, calls)))

    of_stored, of_original = (
        np.concatenate(reference_logits.compute(model, weights, PROMPTS))
        for weights in (converted.stored(), converted.checkpoint)
    )
    assert np.linalg.norm(served - of_stored) < 0.2 * np.linalg.norm(served - of_original)
