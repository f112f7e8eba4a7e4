"""Estimates of the Hessian: exact with many inputs, and without false correlations with few."""

import pytest
import torch

from slmflow.conversion.calibration.input_moments import InputMoments

SIZE = 64


def inputs(tokens: int, mixing: torch.Tensor) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(tokens, len(mixing), generator=generator) @ mixing


def estimate(values: torch.Tensor) -> torch.Tensor:
    moments = InputMoments(values.shape[1], len(values))
    for part in values.split(50):
        moments.add(part)
    return moments.hessian()


def correlated() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.eye(SIZE) + 0.3 * torch.randn(SIZE, SIZE, generator=generator)


@pytest.mark.parametrize("tokens", [48, 200])
def test_shrunk_estimate_is_nearer_to_the_truth(tokens: int) -> None:
    for mixing in (torch.diag(torch.linspace(0.5, 3, SIZE)), correlated()):
        values, truth = inputs(tokens, mixing), mixing.T @ mixing

        plain = values.T @ values / tokens

        assert (estimate(values) - truth).norm() < 0.9 * (plain - truth).norm()


def test_unrelated_inputs_lose_their_false_correlations() -> None:
    shrunk = estimate(inputs(SIZE, torch.eye(SIZE)))
    assert (shrunk - torch.diag(shrunk.diagonal())).norm() < 0.05 * shrunk.norm()


def test_importance_of_each_input_stays() -> None:
    values = inputs(100, correlated())
    assert torch.allclose(estimate(values).diagonal(), values.square().mean(0), rtol=1e-5)


def test_many_inputs_are_hardly_shrunk() -> None:
    values = inputs(200_000, correlated())
    plain = values.T @ values / len(values)
    assert (estimate(values) - plain).norm() < 1e-3 * plain.norm()


@pytest.mark.parametrize("value", [0.0, torch.inf, torch.nan])
def test_degenerate_inputs_pass_through(value: float) -> None:
    hessian = estimate(torch.full((10, 4), value))
    assert torch.equal(hessian.diagonal().isfinite(), torch.full((4,), value == 0))
