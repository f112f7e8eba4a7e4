"""What is suggested can be configured."""

import pytest

from slmflow.config import compose as configs
from slmflow.config.overrides import from_arguments
from slmflow.config.target_advice import suggest

RTN, CUDA = "target=cpu_int4_rtn", "target=cuda_int4 target.quantization.algorithm=rtn"
GPTQ = " target.quantization.algorithm=gptq"
BALANCED = "target=cpu_balanced"
TARGETS = {
    RTN: ("block_size=16", "gptq", BALANCED, "target=cpu_int8"),
    f"{RTN} target.quantization.block_size=128": ("block_size=32", "gptq"),
    f"{RTN} target.quantization.block_size=16": ("gptq", "target=cpu_int8"),
    f"{RTN} exporter=builder": ("block_size=16", "symmetric=false", "target=cpu_int8"),
    f"{RTN} target.quantization.eight_bit=[lm_head]": ("block_size=16", "gptq"),
    f"{RTN} target.quantization.algorithm=hqq target.quantization.symmetric=false "
    "target.quantization.accuracy_level=0": ("block_size=16", "target=cpu_int8"),
    RTN + GPTQ: ("symmetric=false", "bits_per_weight=5.5", "target=cpu_int8"),
    "target=cpu_int4": ("symmetric=false", "bits_per_weight=5.5", "target=cpu_int8"),
    f"{RTN}{GPTQ} target.quantization.budget_mb=80": ("budget_mb=96", "target=cpu_int8"),
    f"{BALANCED} target.quantization.bits_per_weight=6": ("bits_per_weight=7", "target=cpu_int8"),
    f"{BALANCED} target.quantization.bits_per_weight=8.5": ("bits_per_weight=9",),
    f"{BALANCED} target.quantization.budget_mb=80": ("budget_mb=96", "target=cpu_int8"),
    f"{BALANCED} target.quantization.bits_per_weight=9": ("target=cpu_int8",),
    "target=cpu_int8": ("block_size=16", "symmetric=false", "target=cpu_fp32"),
    CUDA: ("block_size=16", "gptq", "eight_bit", "bits=8"),
    CUDA + GPTQ: ("symmetric=false", "bits_per_weight=5.5", "bits=8"),
    f"{CUDA}{GPTQ} target.quantization.bits_per_weight=5": ("bits_per_weight=6",),
    f"{CUDA} target.quantization.bits=8": ("target=cuda_fp16",),
    "target=dml_int4 target.quantization.bits=8": ("target.quantization=null",),
    "target=cuda_fp16": ("target.precision=fp32",),
}


@pytest.mark.parametrize("target", TARGETS)
def test_suggestions_are_valid_overrides(target: str) -> None:
    before = target.split()
    config = configs.load(from_arguments(before))
    suggestions = suggest(config.target, config.exporter)
    texts = [" ".join(each.overrides) for each in suggestions]
    for expected in TARGETS[target]:
        assert any(expected in text for text in texts), texts
    for each in suggestions:
        replaces_target = each.overrides[0].startswith("target=")
        overrides = [*(() if replaces_target else before), *each.overrides]
        changed = configs.load(from_arguments(overrides))
        assert changed.target != config.target


def test_larger_budget_is_above_the_reached_size() -> None:
    config = configs.load(["target=cpu_int4", "target.quantization.budget_mb=2"])
    suggestions = suggest(config.target, config.exporter, size_mb=50)
    assert any("budget_mb=60" in str(each) for each in suggestions)


def test_unrounded_target_has_no_suggestion() -> None:
    config = configs.load(["target=cpu_fp32"])
    assert suggest(config.target, config.exporter) == ()
