"""What Lloyd's algorithm keeps of the rows of each cluster. Legend: D features, K clusters."""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.estimators.moments import SLACK

from .nearest import Points

LOST = 1e-6  # of the largest value of a column


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Of the rows of each cluster, float64."""

    point_KD: Tensor  # weight * point
    weight_K: Tensor
    count_K: Tensor  # rows with a weight above 0
    square: Tensor  # weight * point^2 of all clusters together, ()

    @classmethod
    def zeros(cls, C_KD: Tensor) -> "Sums":
        zero_K = torch.zeros(len(C_KD), dtype=torch.float64)
        zero_KD = torch.zeros(C_KD.shape, dtype=torch.float64)
        return cls(point_KD=zero_KD, weight_K=zero_K, count_K=zero_K, square=zero_K.sum())

    def plus(self, point_KD: Tensor, weight_K: Tensor, count_K: Tensor, square: Tensor) -> "Sums":
        """Clusters without rows become exactly 0, whatever rounding left."""
        count_K = self.count_K + count_K
        some_K = count_K > 0
        return Sums(
            point_KD=(self.point_KD + point_KD) * some_K[:, None],
            weight_K=(self.weight_K + weight_K) * some_K,
            count_K=count_K,
            square=self.square + square,
        )

    def means(self) -> Tensor:
        """Means by cluster; a cluster without weight gets that of the heaviest one, as in scikit-learn."""
        has_weight_K = self.weight_K > 0
        mean_KD = self.point_KD / torch.where(has_weight_K, self.weight_K, 1.0)[:, None]
        return torch.where(has_weight_K[:, None], mean_KD, mean_KD[self.weight_K.argmax()])


def point_bound(data: Points) -> Tensor:
    """No change of a cluster's sum of weight * point exceeds it, float64 (D,): by Cauchy and Schwarz, once for the rows that
    come and once for those that go."""
    return 2 * SLACK * data.weight**0.5 * data.square_D.sqrt()  # the product of both can vanish


def total_bound(data: Points) -> Tensor:
    """The sum of weight * point^2 does not exceed it, float64 (): that of moments leaves out the rounding of constant columns,
    and loses digits where rows of little weight are far away."""
    return 2 * data.square_D.sum() + data.weight * (LOST * data.x.peak_D).square().sum()
