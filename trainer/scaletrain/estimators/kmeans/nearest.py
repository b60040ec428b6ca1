"""What K-Means needs to know of the rows before it assigns them to centres, and how far they are from these.

Inside, points are rows minus a shift: the mean if it is far from 0 compared with the spread, else 0. Distances are computed
directly for the nearest centre, because the expanded square loses digits.

Legend: N rows of a block, D features, K centres.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.moments import SLACK, Moments, fits_single, moments, row_weights
from scaletrain.exact import sum_blocks

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
    dtype: torch.dtype  # of points: of the features, or float64 where float32 does not hold the largest squares

    def of(self, block: Block, row_M: Tensor | None = None) -> Tensor:
        """The block's points, or only those of some rows, in their dtype."""
        X_ND = (block.X_ND if row_M is None else block.X_ND.index_select(0, row_M)).to(self.dtype)
        return X_ND - self.shift_D.to(block.device, self.dtype) if self.is_shifted else X_ND


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
        dtype=x.dtype if fits_single((x.peak_D + shift_D.abs()).max()) else torch.float64,
    )


def squared_distances(X_ND: Tensor, C_KD: Tensor, label_N: Tensor) -> Tensor:
    """Squared distances of the points to their centres, float64 sums of squared differences in the dtype of the points."""
    return (X_ND - C_KD.to(X_ND.dtype).index_select(0, label_N)).square_().sum(1, dtype=torch.float64)


def square_bound(data: Points, C_KD: Tensor) -> Tensor:
    """No sum of weight * squared distance to one of the centres exceeds it: |x - c|^2 <= 2 |x|^2 + 2 |c|^2."""
    center = float((C_KD.to(torch.float64) ** 2).sum(1).max())
    return 2 * SLACK * (data.square_D.sum() + data.weight * center)


class RowState:
    """Numbers that belong to rows: one tensor for each of this rank's blocks, in memory that goes to the disk if they do."""

    def __init__(self, blocks: Blocks, fill: float, dtype: torch.dtype) -> None:
        lengths = [head.num_rows for head in blocks.heads]
        values = blocks.room.scratch(sum(lengths) * dtype.itemsize).view(dtype).fill_(fill).split(lengths)
        self._values = {head.first_row: part.to(head.device) for head, part in zip(blocks.heads, values, strict=True)}

    def of(self, block: Block) -> Tensor:
        """May be changed in place, by one thread at a time."""
        return self.named(name_of(block))

    def named(self, name: int) -> Tensor:
        """Those of the block of that name."""
        return self._values[name]


def name_of(block: Block) -> int:
    """The number of its first row; -1 without rows."""
    return int(block.row_N[0]) if len(block) else -1


def _num_weighted(comm: Comm, blocks: Blocks) -> int:
    bound = torch.tensor(float(blocks.num_rows), dtype=torch.float64)
    (count,) = sum_blocks(comm, blocks, lambda block: [(row_weights(block) > 0).to(torch.float64).sum()], [bound])
    return int(count)
