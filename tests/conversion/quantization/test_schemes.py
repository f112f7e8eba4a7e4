"""Choice of the quantized weights and their bits, on a traced graph."""

import pytest

from slmflow.config.schema.target import Algorithm, Quantization
from slmflow.conversion.quantization import schemes
from slmflow.conversion.quantization.schemes import ScaleType
from slmflow.errors import UserError
from tests.conversion.passes import traced_graphs


@pytest.mark.parametrize(
    ("patterns", "modules"),
    [
        (["*.down_proj"], {"model.layers.0.mlp.down_proj", "model.layers.1.mlp.down_proj"}),
        (
            ["lm_head", "*.[1-9].*_proj"],
            {"lm_head"}
            | {f"model.layers.1.self_attn.{name}_proj" for name in "qkvo"}
            | {f"model.layers.1.mlp.{name}_proj" for name in ("gate", "up", "down")},
        ),
    ],
)
def test_patterns_choose_the_eight_bit_modules(patterns: list[str], modules: set[str]) -> None:
    model, _ = traced_graphs.folded("qwen3")

    chosen = schemes.choose(model.graph, Quantization(eight_bit=patterns), fp16=False)

    eight_bit = {scheme.source.name for scheme in chosen.values() if scheme.bits == 8}
    assert eight_bit == {f"{module}.weight" for module in modules}


@pytest.mark.parametrize("pattern", ["model.embed_tokens", "no.such", "down_proj", "*.DOWN_PROJ"])
def test_pattern_without_a_quantized_module_is_rejected(pattern: str) -> None:
    model, _ = traced_graphs.folded("qwen3")

    with pytest.raises(UserError, match=r"no quantized module has this name") as caught:
        schemes.choose(model.graph, Quantization(eight_bit=["lm_head", pattern]), fp16=False)

    assert f"eight_bit=['{pattern}']" in str(caught.value)
    names = str(caught.value).partition("Choose from ")[2].split(", ")
    assert "lm_head" in names
    assert "model.embed_tokens" not in names
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("algorithm", "fp16", "scale_type"),
    [
        (Algorithm.rtn, False, ScaleType.float32),
        (Algorithm.rtn, True, ScaleType.float16),
        (Algorithm.gptq, False, ScaleType.int8),
        (Algorithm.gptq, True, ScaleType.float16),
    ],
)
def test_algorithm_and_precision_decide_how_scales_are_stored(
    algorithm: Algorithm, fp16: bool, scale_type: ScaleType
) -> None:
    model, _ = traced_graphs.folded("llama")  # its embedding is tied to the LM head
    quantization = Quantization(8, 16, False, 1, algorithm)

    chosen = schemes.choose(model.graph, quantization, fp16=fp16)

    assert "model.embed_tokens.weight" in {scheme.source.name for scheme in chosen.values()}
    formats = {
        (s.bits, s.block_size, s.symmetric, s.algorithm, s.accuracy_level, s.scale_type)
        for s in chosen.values()
    }
    assert formats == {(8, 16, False, algorithm, 1, scale_type)}
