"""Wrong passes are rejected: by the check for lost weights, and by the proof."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from slmflow.conversion import decoder_spec
from slmflow.conversion.decoder_spec import AttentionSpec, DecoderSpec, RotaryCache
from slmflow.conversion.passes import apply, attention
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import FUSED
from tests.conversion.conversions import convert


def _convert(name: str, folder: Path) -> None:
    weights = architectures.save_random_model(FUSED[name], folder / "weights")
    convert(weights, folder / "onnx", "cpu_fp32")


def _ignore_query_and_key_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    names = tuple(name for name in attention._SUBMODULES if not name.endswith("_norm"))
    monkeypatch.setattr(attention, "_SUBMODULES", names)


def test_pass_that_loses_weights_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen3 without its query and key norms is a valid graph of another model."""
    _ignore_query_and_key_norms(monkeypatch)

    with pytest.raises(UserError, match="graph pass attention lost 4 weights"):
        _convert("qwen3", tmp_path)


def test_proof_rejects_lost_weights_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _ignore_query_and_key_norms(monkeypatch)
    monkeypatch.setattr(apply, "weights_in_use", lambda model: frozenset())

    with pytest.raises(UserError, match="the ONNX graph does not match the reference"):
        _convert("qwen3", tmp_path)


def _change_scale(layer: AttentionSpec) -> AttentionSpec:
    return dataclasses.replace(layer, scale=layer.scale * 1.01)


def _widen_window(layer: AttentionSpec) -> AttentionSpec:
    return dataclasses.replace(layer, window=(layer.window or 0) + 1)


def _remove_softcap(layer: AttentionSpec) -> AttentionSpec:
    return dataclasses.replace(layer, softcap=0.0)


def _remove_rotary(layer: AttentionSpec) -> AttentionSpec:
    return dataclasses.replace(layer, rotary=None)


def _reverse_rotation(cache: RotaryCache) -> RotaryCache:
    return dataclasses.replace(cache, sin=-cache.sin)


def _unchanged(spec: Any) -> Any:
    return spec


@pytest.mark.parametrize(
    ("name", "change_layer", "change_cache"),
    [
        ("phi3", _change_scale, _unchanged),
        ("phi3", _widen_window, _unchanged),
        ("gemma2", _remove_softcap, _unchanged),
        ("phi3", _remove_rotary, _unchanged),
        ("phi3", _unchanged, _reverse_rotation),
    ],
    ids=["scale", "window", "softcap", "rotary", "direction"],
)
def test_proof_rejects_a_wrong_description(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    change_layer: Callable[[AttentionSpec], AttentionSpec],
    change_cache: Callable[[RotaryCache], RotaryCache],
) -> None:
    describe = decoder_spec.describe

    def describe_wrongly(model: PreTrainedModel) -> DecoderSpec:
        spec = describe(model)
        return dataclasses.replace(
            spec,
            attentions=tuple(change_layer(layer) for layer in spec.attentions),
            rotary_caches={key: change_cache(c) for key, c in spec.rotary_caches.items()},
        )

    monkeypatch.setattr(decoder_spec, "describe", describe_wrongly)

    with pytest.raises(UserError, match="the ONNX graph does not match the reference"):
        _convert(name, tmp_path)
