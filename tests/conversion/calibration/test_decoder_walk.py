"""The decoder layer by layer, against transformers' own forward pass."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from slmflow.conversion.calibration.decoder_walk import DecoderWalk
from slmflow.conversion.proof import reference_logits
from slmflow.errors import UserError
from tests.conversion import architectures
from tests.conversion.calibration import random_models
from tests.conversion.calibration.random_models import MODELS

# Longer than all sliding windows and original context lengths.
WINDOWS = [architectures.prompt(140, seed) for seed in (0, 1)]


def _walk_through(walk: DecoderWalk) -> torch.Tensor:
    """Return what the last layer returns: float32 [windows, tokens, size]."""
    hidden = walk.embeddings
    with torch.no_grad():
        for index in range(len(walk)):
            with walk.layer(index) as layer:
                hidden = torch.cat([layer.forward(window[None]) for window in hidden])
    return hidden


def _logits(walk: DecoderWalk) -> list[Any]:
    with torch.no_grad():
        return [walk.finish(window[None])[2][0].numpy() for window in _walk_through(walk)]


@pytest.mark.parametrize("name", MODELS)
def test_logits_equal_the_reference(tmp_path: Path, name: str) -> None:
    settings = {"max_position_embeddings": 128} if name == "llama_dynamic" else {}
    model, checkpoint = random_models.load(name, tmp_path / name, **settings)

    logits = _logits(DecoderWalk(model, checkpoint, WINDOWS))

    for computed, expected in zip(
        logits, reference_logits.compute(model, checkpoint, WINDOWS), strict=True
    ):
        span = np.ptp(expected)
        assert span > 0.5
        np.testing.assert_allclose(computed, expected, rtol=0, atol=1e-5 * span)


def test_only_one_layer_has_weights(tmp_path: Path) -> None:
    model, checkpoint = random_models.load("qwen2", tmp_path / "qwen2")
    walk = DecoderWalk(model, checkpoint, WINDOWS)
    layers = walk._layers

    with walk.layer(0) as layer:
        assert layer.path == "model.layers.0"
        assert "model.layers.0.self_attn.q_proj" in layer.linears
        assert _devices(layers[0]) == {"cpu"}
        assert _devices(layers[1]) == {"meta"}
    with pytest.raises(ZeroDivisionError), walk.layer(1):
        raise ZeroDivisionError

    assert _devices(walk._model) == {"meta"}
    _walk_through(walk)
    walk.finish(walk.embeddings[:1])
    assert _devices(walk._model) == {"meta"}


def _devices(module: nn.Module) -> set[str]:
    return {parameter.device.type for parameter in module.parameters()}


@pytest.mark.parametrize("name", ["phi3_longrope", "llama_dynamic"])
def test_model_is_left_unchanged(tmp_path: Path, name: str) -> None:
    """A pass beyond the original length changes the rotary frequencies of the model it runs."""
    model, checkpoint = random_models.load(name, tmp_path / name, max_position_embeddings=128)
    buffers = copy.deepcopy(dict(model.named_buffers()))
    forwards = [module.forward for module in model.modules()]

    _logits(DecoderWalk(model, checkpoint, WINDOWS))

    assert _devices(model) == {"meta"}
    assert all(torch.equal(buffers[n], each) for n, each in model.named_buffers())
    assert [module.forward for module in model.modules()] == forwards


@pytest.mark.parametrize("name", ["llama", "gemma3", "granite"])
def test_embedding_is_computed_with_another_weight(tmp_path: Path, name: str) -> None:
    """Embeddings are scaled by their own module (gemma3) or by the model (granite)."""
    model, checkpoint = random_models.load(name, tmp_path / name)
    weight = checkpoint["model.embed_tokens.weight"]
    walk = DecoderWalk(model, checkpoint, WINDOWS)

    doubled = walk.embed(1, 2 * weight)

    torch.testing.assert_close(doubled, 2 * walk.embeddings[1:])
    torch.testing.assert_close(walk.embed(1, weight), walk.embeddings[1:])
    assert _devices(walk._model) == {"meta"}


def test_gradients_reach_the_first_layer(tmp_path: Path) -> None:
    model, checkpoint = random_models.load("qwen3", tmp_path / "qwen3")
    walk = DecoderWalk(model, checkpoint, WINDOWS)
    hidden = walk.embeddings[:1].clone().requires_grad_()

    with walk.layer(0) as first, walk.layer(1) as second:
        _, _, logits = walk.finish(second.forward(first.forward(hidden)))
        (gradient,) = torch.autograd.grad(logits.square().sum(), hidden)

    loaded = architectures.load(tmp_path / "qwen3", attention=model.config._attn_implementation)
    embedded = loaded.model.embed_tokens(torch.tensor(WINDOWS[:1])).detach().requires_grad_()
    expected = loaded(inputs_embeds=embedded).logits.square().sum()
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected, embedded)[0], rtol=1e-4, atol=1e-3
    )


def test_model_without_layers_is_refused(tmp_path: Path) -> None:
    model, checkpoint = random_models.load("llama", tmp_path / "llama")
    model.config.num_hidden_layers = 3

    with pytest.raises(UserError, match=r"no list of 3 layers\. Choose algorithm=rtn or k_quant"):
        DecoderWalk(model, checkpoint, WINDOWS)
