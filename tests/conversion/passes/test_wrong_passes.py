"""Wrong passes are rejected: by the check for lost weights, and by the proof."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from slmflow.conversion import decoder_spec
from slmflow.conversion.decoder_spec import DecoderSpec
from slmflow.conversion.passes import apply, attention
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import FUSED, WINDOW
from tests.conversion.conversions import convert

PROOF_FAILS = "the ONNX graph does not match the reference"


def _convert(name: str, folder: Path) -> None:
    weights = architectures.save_random_model(FUSED[name], folder / "weights")
    convert(weights, folder / "onnx", "cpu_fp32")


@pytest.mark.parametrize(
    ("is_checked", "message"),
    [(True, "graph pass attention lost 4 weights"), (False, PROOF_FAILS)],
    ids=["check", "proof"],
)
def test_lost_weights_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_checked: bool, message: str
) -> None:
    """Qwen3 without its query and key norms is a valid graph of another model."""
    monkeypatch.setattr(attention, "_INPUTS", attention._PROJECTIONS)
    if not is_checked:
        monkeypatch.setattr(apply, "weights_in_use", lambda model: frozenset())

    with pytest.raises(UserError, match=message):
        _convert("qwen3", tmp_path)


@pytest.mark.parametrize(
    ("name", "layer_fields", "sine_factor"),
    [
        ("phi3", {"scale": 1.01 * 16**-0.5}, 1),
        ("phi3", {"window": WINDOW + 1}, 1),
        ("gemma2", {"softcap": 0.0}, 1),
        ("phi3", {"rotary": None}, 1),
        ("phi3", {}, -1),
    ],
    ids=["scale", "window", "softcap", "rotary", "direction"],
)
def test_proof_rejects_a_wrong_description(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    layer_fields: dict[str, Any],
    sine_factor: int,
) -> None:
    describe = decoder_spec.describe

    def describe_wrongly(model: PreTrainedModel) -> DecoderSpec:
        spec = describe(model)
        layers = [dataclasses.replace(layer, **layer_fields) for layer in spec.attentions]
        caches = {
            key: dataclasses.replace(cache, sin=sine_factor * cache.sin)
            for key, cache in spec.rotary_caches.items()
        }
        return dataclasses.replace(spec, attentions=tuple(layers), rotary_caches=caches)

    monkeypatch.setattr(decoder_spec, "describe", describe_wrongly)

    with pytest.raises(UserError, match=PROOF_FAILS):
        _convert(name, tmp_path)
