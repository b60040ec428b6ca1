"""Losses of a margin m = y z, where y is -1 or +1 and z the decision value.

`value`, `slope` and `curvature` work element by element on float64. `max_curvature` bounds the curvature, and `steepness` the
square of the slope by the value. `growth(n, r)` bounds the sum of the values of n rows whose decision values have the root of the
sum of squares r; `slope_square(n, r)` bounds the sum of the squared slopes. They make the exact sums safe.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus


class MarginLoss(Protocol):
    max_curvature: float
    steepness: float

    def value(self, m: Tensor) -> Tensor: ...

    def slope(self, m: Tensor) -> Tensor: ...

    def curvature(self, m: Tensor) -> Tensor: ...

    def growth(self, n: int, r: float) -> float: ...

    def slope_square(self, n: int, r: float) -> float: ...


@dataclass(frozen=True, slots=True)
class SquaredHinge:
    """max(0, 1 - m)^2, the loss of scikit-learn's LinearSVC."""

    max_curvature: float = 2.0
    steepness: float = 4.0

    def value(self, m: Tensor) -> Tensor:
        return (1 - m).clamp_(min=0).square_()

    def slope(self, m: Tensor) -> Tensor:
        return (1 - m).clamp_(min=0).mul_(-2)

    def curvature(self, m: Tensor) -> Tensor:
        return (m < 1).to(m.dtype).mul_(2)

    def growth(self, n: int, r: float) -> float:
        return (n**0.5 + r) ** 2

    def slope_square(self, n: int, r: float) -> float:
        return 4 * self.growth(n, r)


@dataclass(frozen=True, slots=True)
class Logistic:
    """log(1 + exp(-m))."""

    max_curvature: float = 0.25
    steepness: float = 1.0  # slope^2 <= |slope| = u / (1 + u) <= log(1 + u) with u = exp(-m)

    def value(self, m: Tensor) -> Tensor:
        return softplus(-m, threshold=40)

    def slope(self, m: Tensor) -> Tensor:
        return torch.sigmoid(-m).neg_()

    def curvature(self, m: Tensor) -> Tensor:
        p = torch.sigmoid(m)
        return p * (1 - p)

    def growth(self, n: int, r: float) -> float:
        return n + n**0.5 * r

    def slope_square(self, n: int, r: float) -> float:
        return float(n)
