"""Rounding with error feedback, against the textbook's loop in float64."""

import itertools

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slmflow.config.schema.target import Algorithm
from slmflow.conversion.calibration import gptq, scale_search
from slmflow.conversion.calibration.gptq import Feedback
from slmflow.conversion.calibration.scale_search import Grid
from slmflow.conversion.passes.graph import WeightSource
from slmflow.conversion.quantization import blockwise
from slmflow.conversion.quantization.schemes import ScaleType, Scheme
from slmflow.errors import UserError

Float64 = NDArray[np.float64]


def _scheme(
    bits: int = 4,
    *,
    symmetric: bool = True,
    scale_type: ScaleType = ScaleType.int8,
    block_size: int = 32,
) -> Scheme:
    source = WeightSource("weight")
    return Scheme(source, bits, block_size, symmetric, Algorithm.gptq, 0, scale_type)


SCHEMES = [
    _scheme(bits, symmetric=symmetric, scale_type=scale_type)
    for bits, symmetric, scale_type in itertools.product((4, 8), (True, False), ScaleType)
]


def _name(scheme: Scheme) -> str:
    zero_points = "symmetric" if scheme.symmetric else "asymmetric"
    return f"{scheme.bits}-{zero_points}-{scheme.scale_type.value}"


all_schemes = pytest.mark.parametrize("scheme", SCHEMES, ids=_name)


def _weight(rows: int, columns: int) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(columns))


def _inputs(columns: int, tokens: int = 600) -> torch.Tensor:
    """Return correlated inputs of unequal size: float32 [tokens, columns]."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(tokens, columns // 4, generator=generator)
    mixed = factors @ torch.randn(columns // 4, columns, generator=generator)
    noise = 0.3 * torch.randn(tokens, columns, generator=generator)
    return (mixed + noise) * torch.linspace(0.2, 2, columns)


def _hessian(inputs: torch.Tensor) -> torch.Tensor:
    return inputs.T @ inputs / len(inputs)


def _textbook(weight: Float64, hessian: Float64, grid: Grid, scheme: Scheme) -> Float64:
    """Round column by column in the order of the diagonal; return the rounded values.

    The inverse of the Hessian of the columns left is computed anew for each column, as in Optimal
    Brain Quantization, from which GPTQ derives its Cholesky factor.
    """
    exact, rounded = weight.copy(), np.empty_like(weight)
    damped = hessian + 0.01 * np.diag(hessian).mean() * np.eye(len(hessian))
    order = list(np.argsort(-np.diag(hessian), kind="stable"))
    for position, column in enumerate(order):
        left = order[position:]
        inverse = np.linalg.inv(damped[np.ix_(left, left)])
        block = column // scheme.block_size
        scales, zero_points = grid.scales[:, block], grid.zero_points[:, block]
        values = np.clip(np.rint(exact[:, column] / scales) + zero_points, 0, 2**scheme.bits - 1)
        rounded[:, column] = (values - zero_points) * scales
        error = exact[:, column] - rounded[:, column]
        exact[:, left] -= np.outer(error / inverse[0, 0], inverse[0])
    return rounded


def _output_error(
    weight: torch.Tensor, rounded: NDArray[np.float32], inputs: torch.Tensor
) -> float:
    """Return the mean squared error of the outputs."""
    return float((inputs @ (weight - torch.from_numpy(rounded)).T).square().mean())


@all_schemes
@pytest.mark.parametrize("columns", [96, 100])
def test_values_equal_the_textbook(scheme: Scheme, columns: int) -> None:
    """Where float32 decides a tie otherwise, the rest of that row differs."""
    weight, hessian = _weight(40, columns), _hessian(_inputs(columns))
    grid = scale_search.search(weight.numpy(), hessian.diagonal().numpy().copy(), scheme)
    expected = _textbook(weight.double().numpy(), hessian.double().numpy(), grid, scheme)

    rounded = blockwise.dequantize(gptq.quantize(weight, Feedback(hessian), scheme))

    assert rounded.shape == weight.shape
    differing = ~np.isclose(rounded, expected, atol=1e-5).all(1)
    assert differing.mean() <= (0.1 if scheme.bits == 4 else 0.3)
    inputs = _inputs(columns)
    assert _output_error(weight, rounded, inputs) == pytest.approx(
        _output_error(weight, expected.astype(np.float32), inputs), rel=0.05
    )


@all_schemes
def test_layout_is_that_of_the_scheme(scheme: Scheme) -> None:
    weight, hessian = _weight(6, 100), _hessian(_inputs(100))

    quantized = gptq.quantize(weight, Feedback(hessian), scheme)

    scheme.check(quantized)
    assert quantized.columns == 100
    assert quantized.packed.shape == (6, 4, 32 * scheme.bits // 8)
    assert quantized.scales.shape == (6, 4)
    assert (quantized.coded_scales is not None) == (scheme.scale_type is ScaleType.int8)
    if quantized.zero_points is not None:
        assert quantized.zero_points.dtype == np.uint8
        assert quantized.zero_points.shape == (6, 4 * scheme.bits // 8)
    whole = blockwise.QuantizedWeight(
        scheme.bits, 128, quantized.packed, quantized.scales, quantized.zero_points
    )
    assert not blockwise.dequantize(whole)[:, 100:].any()  # the padding


@all_schemes
def test_outputs_are_closer_than_by_plain_rounding(scheme: Scheme) -> None:
    weight, inputs = _weight(64, 192), _inputs(192)
    importance = inputs.square().mean(0).numpy()

    rounded = blockwise.dequantize(gptq.quantize(weight, Feedback(_hessian(inputs)), scheme))

    plain = scale_search.round_to_nearest(weight.numpy(), importance, scheme)
    assert _output_error(weight, rounded, inputs) < 0.5 * _output_error(weight, plain, inputs)


def test_weight_is_left_unchanged() -> None:
    weight, scheme = _weight(8, 64), _scheme()
    before = weight.clone()

    gptq.quantize(weight, Feedback(_hessian(_inputs(64))), scheme)

    assert torch.equal(weight, before)


def test_rows_do_not_affect_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are rounded in slabs, whose bounds must not matter."""
    weight, scheme = _weight(40, 64), _scheme(symmetric=False)
    feedback = Feedback(_hessian(_inputs(64)))
    whole = gptq.quantize(weight, feedback, scheme)

    monkeypatch.setattr(gptq, "_ROWS", 16)

    np.testing.assert_array_equal(gptq.quantize(weight, feedback, scheme).packed, whole.packed)
    part = gptq.quantize(weight[3:5], feedback, scheme)
    np.testing.assert_array_equal(part.packed, whole.packed[3:5])


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_dead_inputs_do_not_disturb_live_ones(size: float) -> None:
    """Whatever the size of the live inputs; weights of dead ones still get their nearest values."""
    weight, inputs, scheme = _weight(32, 128), _inputs(128) * size, _scheme()
    dead = torch.arange(0, 128, 8)
    inputs[:, dead] = 0
    weight[:, dead] *= 4  # they would widen the steps

    rounded = blockwise.dequantize(gptq.quantize(weight, Feedback(_hessian(inputs)), scheme))

    plain = scale_search.round_to_nearest(weight.numpy(), np.ones(128, dtype=np.float32), scheme)
    assert _output_error(weight, rounded, inputs) < 0.3 * _output_error(weight, plain, inputs)
    steps = np.abs(rounded[:, dead] - weight[:, dead].numpy())
    assert np.median(steps) < 0.5


def test_all_inputs_may_be_dead() -> None:
    weight, scheme = _weight(4, 64), _scheme()

    rounded = blockwise.dequantize(gptq.quantize(weight, Feedback(torch.zeros(64, 64)), scheme))

    plain = scale_search.round_to_nearest(weight.numpy(), np.ones(64, dtype=np.float32), scheme)
    np.testing.assert_array_equal(rounded, plain)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("tokens", [1, 3])
def test_singular_hessians_are_damped(tokens: int, size: float) -> None:
    weight, inputs, scheme = _weight(16, 96), size * _inputs(96)[:tokens], _scheme()

    feedback = Feedback(_hessian(inputs))
    rounded = blockwise.dequantize(gptq.quantize(weight, feedback, scheme))

    assert torch.isfinite(feedback.factor).all()
    importance = inputs.square().mean(0).numpy()
    plain = scale_search.round_to_nearest(weight.numpy(), importance, scheme)
    assert _output_error(weight, rounded, inputs) < 0.3 * _output_error(weight, plain, inputs)


def test_factor_is_that_of_the_inverse() -> None:
    hessian = _hessian(_inputs(64))
    damped = hessian.double() + 0.01 * hessian.diagonal().mean() * torch.eye(64)

    feedback = Feedback(hessian.clone())

    assert torch.equal(feedback.order, hessian.diagonal().argsort(descending=True, stable=True))
    ordered = damped[feedback.order][:, feedback.order]
    factor = feedback.factor.double()
    torch.testing.assert_close(
        factor.T @ factor @ ordered, torch.eye(64).double(), atol=1e-3, rtol=0
    )
    assert torch.equal(feedback.factor, feedback.factor.triu())
    np.testing.assert_allclose(feedback.importance, hessian.diagonal().numpy())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inputs_that_are_not_finite_are_refused(value: float) -> None:
    hessian = torch.eye(8)
    hessian[3, 3] = value

    with pytest.raises(UserError, match="not finite"):
        Feedback(hessian)
