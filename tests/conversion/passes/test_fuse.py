"""What a broken pass comes up against: the guard, and the proof behind it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import PreTrainedModel

from slmflow.config.compose import load as load_config
from slmflow.config.schema.target import ExporterName
from slmflow.conversion import decoder, passes
from slmflow.conversion.convert import convert_model
from slmflow.conversion.decoder import Attention, Decoder, Rotary
from slmflow.conversion.passes import attention
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.architectures import FUSED


def _convert(name: str, folder: Path) -> None:
    weights = architectures.save(FUSED[name], folder / "weights")
    target = load_config(["target=cpu_fp32"]).target
    (folder / "onnx").mkdir()
    convert_model(weights, folder / "onnx", target, ExporterName.optimum)


def _forget_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = tuple(part for part in attention._PARTS if not part.endswith("_norm"))
    monkeypatch.setattr(attention, "_PARTS", parts)


def test_a_pass_that_loses_weights_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Qwen3 without its norms of queries and keys is a valid graph of another model."""
    _forget_norms(monkeypatch)

    with pytest.raises(UserError, match="the graph pass attention lost 4 weights"):
        _convert("qwen3", tmp_path)


def test_the_proof_refuses_it_without_the_guard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _forget_norms(monkeypatch)
    monkeypatch.setattr(passes, "weights_in_use", lambda model: frozenset())

    with pytest.raises(UserError, match="the ONNX graph is not the original"):
        _convert("qwen3", tmp_path)


def _wrong_scale(layer: Attention) -> Attention:
    return dataclasses.replace(layer, scale=layer.scale * 1.01)


def _wrong_window(layer: Attention) -> Attention:
    return dataclasses.replace(layer, window=(layer.window or 0) + 1)


def _no_softcap(layer: Attention) -> Attention:
    return dataclasses.replace(layer, softcap=0.0)


def _no_rotation(layer: Attention) -> Attention:
    return dataclasses.replace(layer, rotary=None)


def _backwards(rotary: Rotary) -> Rotary:
    return dataclasses.replace(rotary, sin=-rotary.sin)


def _same(rotary: Rotary) -> Rotary:
    return rotary


@pytest.mark.parametrize(
    ("name", "wrong", "turned"),
    [
        ("phi3", _wrong_scale, _same),
        ("phi3", _wrong_window, _same),
        ("gemma2", _no_softcap, _same),
        ("phi3", _no_rotation, _same),
        ("phi3", lambda layer: layer, _backwards),
    ],
    ids=["scale", "window", "softcap", "rotation", "direction"],
)
def test_the_proof_refuses_a_wrong_description(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    wrong: Callable[[Attention], Attention],
    turned: Callable[[Rotary], Rotary],
) -> None:
    describe = decoder.describe

    def described(model: PreTrainedModel) -> Decoder:
        known = describe(model)
        return dataclasses.replace(
            known,
            attentions=tuple(wrong(layer) for layer in known.attentions),
            rotaries={key: turned(rotary) for key, rotary in known.rotaries.items()},
        )

    monkeypatch.setattr(decoder, "describe", described)

    with pytest.raises(UserError, match="the ONNX graph is not the original"):
        _convert(name, tmp_path)
