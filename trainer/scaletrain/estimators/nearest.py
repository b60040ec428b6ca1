"""The nearest centre of each row, and what K-Means needs to know of the rows for that.

Inside, points are rows minus a shift: the mean if it is far from 0 compared with the spread, else 0. Nearest centres are found
by the largest x c - |c|^2 / 2, one matrix product; distances are then computed directly for the winner, because the expanded
square loses digits.

Legend: N rows of a block, D features, K centres.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.exact import sum_blocks

from .linalg import first_largest, is_on_cpu
from .moments import SLACK, Moments, moments, row_weights

SCORES = 1 << 20  # of a slice of rows: 4 MiB of float32
FEW_CENTERS = 32  # measured: above, rows are faster than columns; at most 127, because numbers are int8
FAR = 2.0  # standard deviations of a mean from 0; below, products lose at most three bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """The rows of all ranks, shifted."""

    comm: Comm
    blocks: Blocks
    x: Moments  # without weights, as KMeans in scikit-learn scales `tol`
    shift_D: Tensor  # float64, exact in the dtype of the features
    is_shifted: bool
    weight: float  # sum of the weights
    max_weight: float
    square_D: Tensor  # float64, sum of weight * point^2
    num_weighted: int  # rows with a weight above 0

    @property
    def dtype(self) -> torch.dtype:
        return self.x.dtype

    def of(self, block: Block) -> Tensor:
        """The block's points, in the dtype of the features."""
        return block.X_ND - self.shift_D.to(block.device, self.dtype) if self.is_shifted else block.X_ND


def points(comm: Comm, blocks: Blocks) -> Points:
    """Makes the passes that the fields need."""
    x = moments(comm, blocks, weighted=False)
    weighted = moments(comm, blocks, weighted=True) if x.is_weighted else x
    is_shifted = bool((x.mean_D.abs() > FAR * x.spread_D).any())
    shift_D = x.mean_D.to(x.dtype).to(torch.float64) if is_shifted else torch.zeros_like(x.mean_D)
    return Points(
        comm=comm,
        blocks=blocks,
        x=x,
        shift_D=shift_D,
        is_shifted=is_shifted,
        weight=weighted.weight,
        max_weight=weighted.max_weight,
        square_D=weighted.square_D + weighted.weight * (weighted.mean_D - shift_D) ** 2,
        num_weighted=_num_weighted(comm, blocks) if x.is_weighted else blocks.num_rows,
    )


def nearest(X_ND: Tensor, C_KD: Tensor) -> Tensor:
    """Numbers of the nearest centres, int64 (N,). Ties go to the lowest number. Both in one dtype and on one device."""
    half_K = (C_KD * C_KD).sum(1) / 2
    slices = X_ND.split(max(1, SCORES // len(C_KD)))
    if not is_on_cpu(X_ND):
        return torch.cat([first_largest(torch.addmm(-half_K, X_RD, C_KD.T)) for X_RD in slices])
    find = _argmax_of_few if len(C_KD) <= FEW_CENTERS else _argmax_of_many
    labels = [torch.from_numpy(find(X_RD, C_KD, half_K)) for X_RD in slices]
    return labels[0] if len(labels) == 1 else torch.cat(labels)


def _argmax_of_few(X_RD: Tensor, C_KD: Tensor, half_K: Tensor) -> np.ndarray:
    """Centre by centre over all rows: no branch depends on the data, where the largest of a short row mispredicts most.

    By numpy, whose product is twice as fast as torch's for few centres.
    """
    K = len(C_KD)
    score_RK = np.matmul(X_RD.numpy(), np.ascontiguousarray(C_KD.numpy().T))
    score_KR = np.subtract(score_RK.T, half_K.numpy()[:, None], order="C")
    rank_KR = (score_KR == score_KR.max(0)).view(np.int8)  # the lowest number of the best has the highest rank
    rank_KR *= np.arange(K, 0, -1, dtype=np.int8)[:, None]
    return np.subtract(K, rank_KR.max(0, initial=1), dtype=np.int64)


def _argmax_of_many(X_RD: Tensor, C_KD: Tensor, half_K: Tensor) -> np.ndarray:
    """By numpy, which finds the largest of a row three times faster than torch."""
    return torch.addmm(-half_K, X_RD, C_KD.T).numpy().argmax(1)


def squared_distances(X_ND: Tensor, C_KD: Tensor, label_N: Tensor) -> Tensor:
    """Squared distances of the points to their centres, float64 sums of squared differences in the dtype of the points."""
    return (X_ND - C_KD.to(X_ND.dtype).index_select(0, label_N)).square_().sum(1, dtype=torch.float64)


def square_bound(data: Points, C_KD: Tensor) -> Tensor:
    """No sum of weight * squared distance to one of the centres exceeds it: |x - c|^2 <= 2 |x|^2 + 2 |c|^2."""
    center = float((C_KD.to(torch.float64) ** 2).sum(1).max())
    return 2 * SLACK * (data.square_D.sum() + data.weight * center)


class RowState:
    """Numbers that belong to rows: one tensor for each of this rank's blocks, in memory even if the blocks are not."""

    def __init__(self, blocks: Blocks, fill: float, dtype: torch.dtype) -> None:
        self._values = {
            head.first_row: torch.full((head.num_rows,), fill, dtype=dtype, device=head.device) for head in blocks.heads
        }

    def of(self, block: Block) -> Tensor:
        """May be changed in place, by one thread at a time."""
        return self._values[_name(block)]


def _name(block: Block) -> int:
    return int(block.row_N[0]) if len(block) else -1


def _num_weighted(comm: Comm, blocks: Blocks) -> int:
    bound = torch.tensor(float(blocks.num_rows), dtype=torch.float64)
    (count,) = sum_blocks(comm, blocks, lambda block: [(row_weights(block) > 0).to(torch.float64).sum()], [bound])
    return int(count)
