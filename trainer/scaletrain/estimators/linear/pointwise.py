"""Losses of decision values and labels, for one or more columns of decision values.

`of` gives each row's loss and its slope by the decision values. `max_curvature` bounds the curvature. For rows whose decision values
have, in each column, roots of the sum of squares that add up to r, `growth` bounds the sum of the losses and `slope_norm` the root
of the sum of the squared slopes of a column. They make the exact sums safe.

Legend: N rows, K columns.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import softplus


class Loss(Protocol):
    columns: int
    max_curvature: float

    def of(self, z_NK: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]: ...

    def growth(self, n: int, r: float) -> float: ...

    def slope_norm(self, n: int, r: float) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """(z - t)^2 / 2 of the standardised target t = (y - shift) / scale."""

    shift: float
    scale: float
    peak: float  # bound on |t|
    columns: int = 1
    max_curvature: float = 1.0

    def of(self, z_NK: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
        residual_NK = z_NK - ((y_N.to(torch.float64) - self.shift) / self.scale)[:, None]
        return (residual_NK * residual_NK)[:, 0] / 2, residual_NK

    def growth(self, n: int, r: float) -> float:
        return self.slope_norm(n, r) ** 2

    def slope_norm(self, n: int, r: float) -> float:
        return n**0.5 * self.peak + r


@dataclass(frozen=True, slots=True, kw_only=True)
class Logit:
    """log(1 + exp(z)) - y z for y = 0 or 1."""

    columns: int = 1
    max_curvature: float = 0.25

    def of(self, z_NK: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
        y_NK = y_N.to(torch.float64)[:, None]
        sign_NK = 1 - 2 * y_NK
        return softplus(sign_NK * z_NK, threshold=40)[:, 0], torch.sigmoid(z_NK) - y_NK

    def growth(self, n: int, r: float) -> float:
        return n + n**0.5 * r

    def slope_norm(self, n: int, r: float) -> float:
        return n**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Softmax:
    """log sum exp z - z_y for y = 0, ..., K - 1."""

    columns: int
    max_curvature: float = 0.5

    def of(self, z_NK: Tensor, y_N: Tensor) -> tuple[Tensor, Tensor]:
        log_NK = z_NK.log_softmax(1)
        value_N = -log_NK.gather(1, y_N[:, None])[:, 0]
        slope_NK = log_NK.exp_()
        slope_NK.scatter_add_(1, y_N[:, None], torch.full_like(slope_NK[:, :1], -1.0))
        return value_N, slope_NK

    def growth(self, n: int, r: float) -> float:
        return n * math.log(self.columns) + 2 * n**0.5 * r

    def slope_norm(self, n: int, r: float) -> float:
        return n**0.5
