"""A linear model's mean loss in scaled features: exact sums over all rows, or over a mini-batch.

    f(p) = 1/C sum_i c_i loss(p x~_i, y_i) + 1/2 sum_d penalty_d p_d^2      x~ = ((x - mean) / scale, 1),   C = sum of c_i

The scales give each coordinate the same largest curvature, penalty included, so that the units of the features do not count.
A point is float64, shape (K, P); without an intercept, means are 0 and the last coordinate stays 0.

Legend: N rows of a block, D features, P = D + 1, K columns.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.moments import SLACK, Moments, row_weights
from scaletrain.exact import sum_blocks

from .pointwise import Loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What the rows count."""

    class_K: Tensor | None  # factors of the classes; None: no classes
    total: float  # C
    largest: float

    def of(self, block: Block) -> Tensor:
        weight_N = row_weights(block)
        return weight_N if self.class_K is None else weight_N * self.class_K.to(block.device)[block.y_N]


@dataclass(frozen=True, slots=True, kw_only=True)
class StochasticProblem:
    """Equal on all ranks but for the blocks."""

    comm: Comm
    blocks: Blocks
    loss: Loss
    costs: Costs
    l2: float  # of the sum of losses, by the coefficients of the data
    fit_intercept: bool
    mean_D: Tensor
    inverse_D: Tensor  # 1 / scale; 0 for columns that cannot be learned from
    norm_P: Tensor  # bounds on the lengths of the columns of x~

    @classmethod
    def of(
        cls, blocks: Blocks, x: Moments, loss: Loss, costs: Costs, *, comm: Comm, l2: float, fit_intercept: bool
    ) -> "StochasticProblem":
        """x: without weights."""
        mean_D = x.mean_D if fit_intercept else torch.zeros_like(x.mean_D)
        square_D = x.square_D + x.weight * (x.mean_D - mean_D) ** 2
        scale_D = (square_D / x.weight + l2 / (loss.max_curvature * costs.total)).sqrt()
        is_used_D = (scale_D > 0) & ~(x.is_constant_D & fit_intercept)
        inverse_D = torch.where(is_used_D, 1 / scale_D, 0.0)
        count = torch.tensor([x.weight], dtype=torch.float64)
        return cls(
            comm=comm,
            blocks=blocks,
            loss=loss,
            costs=costs,
            l2=l2,
            fit_intercept=fit_intercept,
            mean_D=mean_D,
            inverse_D=inverse_D,
            norm_P=torch.cat([square_D.sqrt() * inverse_D, count.sqrt()]) * SLACK,
        )

    @property
    def shape(self) -> tuple[int, int]:
        return self.loss.columns, len(self.mean_D) + 1

    @property
    def penalty_P(self) -> Tensor:
        return torch.cat([self.l2 / self.costs.total * self.inverse_D**2, torch.zeros(1, dtype=torch.float64)])

    def evaluate(self, point_KP: Tensor) -> tuple[float, Tensor]:
        """f and its gradient (K, P): one pass, one collective."""

        def partial(block: Block) -> list[Tensor]:
            X_NP, cost_N = self._scaled(block), self.costs.of(block)
            value_N, slope_NK = self.loss.of(X_NP @ point_KP.T.to(block.device), block.y_N)
            return [(cost_N @ value_N).reshape(1), (slope_NK * cost_N[:, None]).T @ X_NP]

        radius = self._radius(point_KP)
        growth = torch.tensor(
            [self.costs.largest * self.loss.growth(self.blocks.num_rows, radius)], dtype=torch.float64
        )
        total, gradient_KP = sum_blocks(self.comm, self.blocks, partial, [growth, self._gradient_bound([radius])])
        penalty_KP = self.penalty_P * point_KP
        value = float(total) / self.costs.total + float((penalty_KP * point_KP).sum()) / 2
        return value, gradient_KP / self.costs.total + penalty_KP

    def difference(self, batch: Blocks, point_KP: Tensor, anchor_KP: Tensor) -> Tensor:
        """The sum over a batch of the gradients of the losses at a point less those at an anchor, divided by C. One collective."""

        def partial(block: Block) -> list[Tensor]:
            X_NP = self._scaled(block)
            slope_NK, there_NK = (
                self.loss.of(X_NP @ at_KP.T.to(block.device), block.y_N)[1] for at_KP in (point_KP, anchor_KP)
            )
            return [((slope_NK - there_NK) * self.costs.of(block)[:, None]).T @ X_NP]

        bound = self._gradient_bound([self._radius(point_KP), self._radius(anchor_KP)])
        (total_KP,) = sum_blocks(self.comm, batch, partial, [bound])
        return total_KP / self.costs.total

    def squares(self, batch: Blocks, direction_P: Tensor) -> tuple[float, Tensor]:
        """Over a batch: the sum of costs, and the sum of c x~ (x~ direction): what a power iteration needs."""

        def partial(block: Block) -> list[Tensor]:
            X_NP, cost_N = self._scaled(block), self.costs.of(block)
            return [cost_N.sum().reshape(1), (cost_N * (X_NP @ direction_P.to(block.device))) @ X_NP]

        count = torch.tensor([self.costs.largest * self.blocks.num_rows], dtype=torch.float64)
        bounds = [count, self.costs.largest * self._radius(direction_P[None]) * self.norm_P]
        cost, total_P = sum_blocks(self.comm, batch, partial, bounds)
        return float(cost), total_P

    def coefficients(self, point_KP: Tensor) -> tuple[Tensor, Tensor]:
        """(K, D) and intercepts (K,) for the features of the data."""
        coef_KD = point_KP[:, :-1] * self.inverse_D
        return coef_KD, point_KP[:, -1] - coef_KD @ self.mean_D

    def _scaled(self, block: Block) -> Tensor:
        X_NP = torch.empty(len(block), self.shape[1], dtype=torch.float64, device=block.device)
        torch.sub(block.X_ND, self.mean_D.to(block.device), out=X_NP[:, :-1]).mul_(self.inverse_D.to(block.device))
        X_NP[:, -1] = float(self.fit_intercept)
        return X_NP

    def _radius(self, point_KP: Tensor) -> float:
        return float((point_KP.abs() @ self.norm_P).sum())

    def _gradient_bound(self, radii: list[float]) -> Tensor:
        slopes = sum(self.loss.slope_norm(self.blocks.num_rows, radius) for radius in radii)
        return (self.costs.largest * slopes * self.norm_P).repeat(self.shape[0], 1)
