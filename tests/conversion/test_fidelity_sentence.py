"""The line on a converted model: figures, how large the loss is, and what to try."""

import dataclasses
import math

import pytest

from slmflow.config.compose import load
from slmflow.conversion import fidelity_sentence
from slmflow.conversion.proof.fidelity import Fidelity, Loss
from slmflow.conversion.proof.parity import Parity
from slmflow.conversion.record import ConversionRecord

SMALL = Fidelity(0.0312, 0.028, 0.0344, 0.02, 0.9, 1.021, 1.01, 1.032, 2048)
RTN = Fidelity(0.43, 0.4, 0.46, 0.3, 0.64, 1.38, 1.3, 1.5, 2048)
RECORD = ConversionRecord(
    parity=Parity(1.0, 0.04, 0.9, 0),
    fidelity=SMALL,
    rtn_fidelity=RTN,
    exact_max_abs_diff=1e-5,
    passes=(),
    seconds=60.0,
    peak_rss_mb=500.0,
    onnx_size_mb=78.12,
    ignored_settings={},
    notes=(),
)
GPTQ = ["target=cpu_int4_rtn", "target.quantization.algorithm=gptq"]


def _describe(record: ConversionRecord, overrides: list[str]) -> str:
    config = load(overrides)
    return fidelity_sentence.describe(record, config.target, config.exporter)


def test_small_loss_needs_no_advice() -> None:
    assert _describe(RECORD, GPTQ) == (
        "cpu_int4_rtn: 78.1 MB; on 2,048 held-out tokens KL 0.031 (0.028 to 0.034), top-1 90.0%, "
        "perplexity x1.021; plain rounding: KL 0.43, top-1 64.0%, perplexity x1.380. "
        "The loss is small."
    )


def test_larger_loss_is_answered_by_advice() -> None:
    record = dataclasses.replace(RECORD, fidelity=RTN, rtn_fidelity=None)
    line = _describe(record, ["target=cpu_balanced", "target.quantization.bits_per_weight=5"])

    assert "plain rounding" not in line
    assert ". The loss is large. Try " in line
    assert "more bits (target.quantization.bits_per_weight=6)" in line
    assert line.endswith("or 8 bits (target=cpu_int8).")


def test_calibration_without_gain_is_remarked_on() -> None:
    record = dataclasses.replace(RECORD, rtn_fidelity=dataclasses.replace(SMALL, mean_kl=0.03))

    assert "worse than plain rounding: give text" in _describe(record, GPTQ)


def test_exact_target_needs_no_advice() -> None:
    record = dataclasses.replace(RECORD, fidelity=RTN, rtn_fidelity=None)

    assert _describe(record, ["target=cpu_fp32"]).endswith("The loss is large.")


@pytest.mark.parametrize(
    ("mean_kl_high", "perplexity_ratio_high", "loss"),
    [
        (0.05, 1.05, Loss.small),
        (0.051, 1.0, Loss.moderate),
        (0.01, 1.051, Loss.moderate),
        (0.2, 1.2, Loss.moderate),
        (0.21, 1.0, Loss.large),
        (0.01, 1.21, Loss.large),
        (math.nan, 1.0, Loss.large),
        (0.01, math.inf, Loss.large),
    ],
)
def test_upper_ends_decide(mean_kl_high: float, perplexity_ratio_high: float, loss: Loss) -> None:
    fidelity = dataclasses.replace(
        SMALL, mean_kl_high=mean_kl_high, perplexity_ratio_high=perplexity_ratio_high
    )
    assert fidelity.loss is loss
