"""Rounding with error feedback: each column's rounding error is made up for in the columns left.

Source: Frantar, Ashkboos, Hoefler and Alistarh 2022, GPTQ, https://arxiv.org/abs/2210.17323. The
columns are rounded in the order of their importance, on a grid that is fixed before.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from slmflow.conversion.calibration import scale_search
from slmflow.conversion.quantization.blockwise import Float32, QuantizedWeight, pack, slabs
from slmflow.conversion.quantization.schemes import Scheme
from slmflow.errors import UserError

# Share of the mean diagonal that is added to the diagonal of a Hessian before it is inverted.
_DAMPING = 0.01

# Columns whose feedback is applied one by one, and rows that are rounded at a time: the working set
# stays in the CPU cache.
_COLUMNS, _ROWS = 32, 2048

# Size of a triangular matrix that is inverted directly.
_SMALL = 256


class Feedback:
    """What the rounding of all weights that read the same input shares.

    order: int64 [K], columns by falling importance; importance: float32 [K], mean square of each
    input; factor: float32 [K, K], upper Cholesky factor of the inverse Hessian, in that order.
    """

    def __init__(self, hessian: torch.Tensor) -> None:
        """Invert a Hessian float32 [K, K]: the mean of x x^T over the inputs x. It is overwritten.

        Raises UserError for a Hessian with values that are not finite.
        """
        diagonal = hessian.diagonal()
        if not bool(torch.isfinite(diagonal).all()):
            raise UserError(
                "calibration: the model computes values that are not finite from calibration.data. "
                "Check its weights, or calibrate on other text"
            )
        # An input that is always zero counts as little as the damping does.
        diagonal[diagonal == 0] = _DAMPING * float(diagonal.mean()) or 1
        self.importance: Float32 = diagonal.numpy().copy()
        self.order = torch.argsort(diagonal, descending=True, stable=True)
        self.factor = _factor(hessian[self.order][:, self.order])


def _factor(hessian: torch.Tensor) -> torch.Tensor:
    """Return the upper Cholesky factor of the inverse, damped as much as that requires."""
    damping = _DAMPING * float(hessian.diagonal().mean())
    while True:
        hessian.diagonal().add_(damping)
        # Of the matrix in reverse order, the inverse of the lower factor is what is wanted.
        lower: torch.Tensor
        lower, failed = torch.linalg.cholesky_ex(hessian.flip(0, 1))
        if not failed:
            _invert_lower(lower)
            return lower.flip(0, 1)
        damping *= 10


def _invert_lower(matrix: torch.Tensor) -> None:
    """Invert a lower triangular matrix in place, by halves, as products of matrices are fast."""
    size = len(matrix)
    if size <= _SMALL:
        identity = torch.eye(size)
        matrix.copy_(torch.linalg.solve_triangular(matrix, identity, upper=False))
        return
    half = size // 2
    first, corner, second = matrix[:half, :half], matrix[half:, :half], matrix[half:, half:]
    _invert_lower(first)
    _invert_lower(second)
    corner.copy_(-(second @ corner @ first))


def quantize(weight: torch.Tensor, feedback: Feedback, scheme: Scheme) -> QuantizedWeight:
    """Round a weight float32 [N, K] to the scheme's bits, blocks and kind of scales."""
    rows, columns = weight.shape
    grid = scale_search.search(weight.numpy(), feedback.importance, scheme)
    blocks = grid.scales.shape[1]
    values = np.empty((rows, blocks * scheme.block_size), dtype=np.uint8)

    def round_slab(slab: slice) -> None:
        rounded = _round(
            weight[slab],
            _by_column(grid.scales[slab], scheme.block_size, feedback.order),
            _by_column(grid.zero_points[slab], scheme.block_size, feedback.order),
            feedback,
            2**scheme.bits - 1,
        )
        values[slab, :columns] = rounded.numpy()

    # The steps are too small for torch's threads.
    with ThreadPoolExecutor(
        os.cpu_count(), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        list(pool.map(round_slab, slabs(weight.shape, _ROWS * columns)))
    # Padding stands for zero.
    padding = values.shape[1] - columns
    values[:, columns:] = np.repeat(grid.zero_points[:, -1:], padding, axis=1)
    return QuantizedWeight(
        scheme.bits,
        columns,
        pack(values.reshape(rows, blocks, scheme.block_size), scheme.bits),
        grid.scales,
        None if scheme.symmetric else pack(grid.zero_points.astype(np.uint8), scheme.bits),
        grid.coded,
    )


def _by_column(blocks: Float32, block_size: int, order: torch.Tensor) -> torch.Tensor:
    """Return what each weight's block has: float32 [K, N], the columns in order."""
    return torch.from_numpy(blocks.T.copy())[order // block_size]


def _round(
    weight: torch.Tensor,
    scales: torch.Tensor,
    zero_points: torch.Tensor,
    feedback: Feedback,
    highest: int,
) -> torch.Tensor:
    """Return the rounded values of a slab: uint8 [N, K]."""
    remaining = weight.T[feedback.order].contiguous()
    factor, diagonal = feedback.factor, feedback.factor.diagonal().tolist()
    errors, values = torch.empty_like(remaining), torch.empty_like(remaining, dtype=torch.uint8)
    scratch = torch.empty(len(weight))

    def round_columns(start: int, stop: int) -> None:
        if stop - start > _COLUMNS:
            middle = (start + stop) // 2
            round_columns(start, middle)
            remaining[middle:stop].addmm_(
                factor[start:middle, middle:stop].T, errors[start:middle], alpha=-1
            )
            round_columns(middle, stop)
            return
        for column in range(start, stop):
            exact, scale, zero_point = remaining[column], scales[column], zero_points[column]
            torch.div(exact, scale, out=scratch).round_().add_(zero_point).clamp_(0, highest)
            values[column].copy_(scratch)
            scratch.sub_(zero_point).mul_(scale)
            error = torch.sub(exact, scratch, out=errors[column]).div_(diagonal[column])
            if column + 1 < stop:
                feedback_row = factor[column, column + 1 : stop]
                remaining[column + 1 : stop].addr_(feedback_row, error, alpha=-1)

    round_columns(0, len(remaining))
    return values[torch.argsort(feedback.order)].T
