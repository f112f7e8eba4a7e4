"""The Hessian of rounding a weight, estimated from the inputs that the weight multiplies.

Error feedback moves errors between correlated inputs. Few tokens make unrelated inputs look
correlated, and the feedback then fits that noise. So the products of different inputs are shrunk by
the share of their size that is noise (Schaefer and Strimmer 2005, target D: the diagonal stays).
"""

import torch


class InputMoments:
    """The mean of x x^T over the inputs x of a weight, and how noisy its estimate is."""

    def __init__(self, size: int, tokens: int) -> None:
        """Start with none of `tokens` inputs, which have `size` values each."""
        self._mean = torch.zeros(size, size)
        self._tokens = tokens
        self._squared_products = 0.0

    def add(self, inputs: torch.Tensor) -> None:
        """Add inputs float32 [tokens, size]."""
        self._mean.addmm_(inputs.T, inputs, alpha=1 / self._tokens)
        squares = inputs.square()
        products = squares.sum(1).double().square() - squares.square().sum(1)
        self._squared_products += float(products.sum())

    def hessian(self) -> torch.Tensor:
        """Return the shrunk mean, float32 [size, size]. It takes the place of the mean."""
        diagonal = self._mean.diagonal().clone()
        between = float(self._mean.square().sum() - diagonal.square().sum())
        noise = (self._squared_products / self._tokens - between) / self._tokens
        # Values that are not finite are left for `Feedback`, which rejects them.
        share = min(max(noise / between, 0.0), 1.0) if 0 < between < torch.inf else 0.0
        self._mean.mul_(1 - share)
        self._mean.diagonal().copy_(diagonal)
        return self._mean
