"""Plain rounding beside a calibrated model, against a model that is converted with it."""

from pathlib import Path

import pytest

from tests.conversion.architectures import BUNDLED
from tests.conversion.conversions import convert


@pytest.mark.long
def test_figures_are_those_of_the_rounded_model(tmp_path: Path) -> None:
    """No module gets more than 4 bits, since the size is too small for that."""
    calibrated = convert(
        BUNDLED,
        tmp_path / "gptq",
        "cpu_int4_rtn",
        "target.quantization.algorithm=gptq",
        "target.quantization.bits_per_weight=4.1",
        "calibration.tokens=1024",
    )
    rounded = convert(BUNDLED, tmp_path / "rtn", "cpu_int4_rtn")

    assert calibrated.rtn_fidelity is not None
    assert calibrated.rtn_fidelity.mean_kl == pytest.approx(rounded.fidelity.mean_kl, rel=1e-6)
    assert calibrated.rtn_fidelity.top1_agreement == rounded.fidelity.top1_agreement
    assert calibrated.fidelity.mean_kl < rounded.fidelity.mean_kl
    assert not list((tmp_path / "gptq").glob("tmp*"))
