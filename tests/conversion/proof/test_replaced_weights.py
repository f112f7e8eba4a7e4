"""Plain rounding without a graph, against models that are converted with it."""

from pathlib import Path

import pytest

from slmflow.checkpoints.tensors import CheckpointTensors
from slmflow.conversion import optimum_export, reference_model
from slmflow.conversion.calibration import text
from slmflow.conversion.proof import fidelity, held_out, reference_logits
from slmflow.conversion.proof.fidelity import Fidelity
from slmflow.conversion.proof.replaced_weights import PlainlyRoundedWeights
from tests.conversion import architectures
from tests.conversion.architectures import BUNDLED, FUSED
from tests.conversion.conversions import convert, target
from tests.conversion.proof.test_held_out import HELD_OUT

GPTQ = "target.quantization.algorithm=gptq"


def _measure_plain_rounding(weights: Path, folder: Path, *overrides: str) -> Fidelity:
    """Return the fidelity of plain rounding in place of gptq."""
    reference = reference_model.load(weights)
    checkpoint = CheckpointTensors.for_model(weights, reference.model)
    chosen_target = target("cpu_int4_rtn", GPTQ, *overrides)
    folder.mkdir()
    graph = optimum_export.trace_and_rewrite(weights, reference, folder, chosen_target)
    schemes = optimum_export.choose_schemes(graph, chosen_target)
    rounded = PlainlyRoundedWeights(schemes, checkpoint, fp16=False)
    windows = held_out.build_windows(reference, text.read(HELD_OUT))
    with held_out.compute_reference(reference, checkpoint, [], windows) as (_, expected):
        logits = reference_logits.compute(reference.model, rounded, windows)
        return fidelity.measure(windows, expected, logits, "plain rounding")


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("bundled", ["target.quantization.eight_bit=[lm_head]"]),
        ("llama", ["target.quantization.symmetric=false", "target.quantization.block_size=16"]),
    ],
)
def test_figures_equal_the_converted_models(
    tmp_path: Path, name: str, overrides: list[str]
) -> None:
    """One model packs projections, which are quantized by parts; the other ties its embedding."""
    weights = BUNDLED
    if name in FUSED:
        weights = architectures.save_random_model(FUSED[name], tmp_path / name)
    exact = "target.quantization.accuracy_level=0"

    converted = convert(weights, tmp_path / "rtn", "cpu_int4_rtn", exact, *overrides).fidelity
    plain = _measure_plain_rounding(weights, tmp_path / "gptq", *overrides)

    assert converted.mean_kl > 0.01
    assert plain.mean_kl == pytest.approx(converted.mean_kl, rel=1e-4)
    assert plain.median_kl == pytest.approx(converted.median_kl, rel=1e-3)
    assert plain.perplexity_ratio == pytest.approx(converted.perplexity_ratio, rel=1e-4)
    assert plain.top1_agreement == pytest.approx(converted.top1_agreement, abs=2 / plain.tokens)
    assert plain.mean_kl_high == pytest.approx(converted.mean_kl_high, rel=1e-3)
