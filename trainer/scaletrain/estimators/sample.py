"""What a sample of the rows tells of the features: where they are, and how far they reach, as far as all rows are like these.

Each 4th row of each 8th block is in the sample, which so is a function of the data alone.

Legend: N rows of a block, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks, rows_per_block
from scaletrain.data.sparse import SparseRows
from scaletrain.exact import sum_blocks

from .ends import LARGEST, LEAST, View, as_they_are, unchecked_ends
from .limits import is_wide
from .linalg import product

SAMPLE, THIN = 8, slice(None, None, 4)
ROUNDING = 1e-6  # of the sums of a block, by the largest value of a column, for each row
RESERVE = 2.0  # how much longer than they can be in the sample the columns of another block may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """Equal on all ranks."""

    mean_D: Tensor  # float64, exact in the dtype of the features, as the ends are
    high_D: Tensor
    low_D: Tensor
    rows: int  # of a block
    dtype: torch.dtype  # of the features

    @property
    def is_near(self) -> bool:
        """Whether all columns lie around 0, so that sums in float64 can be taken about 0 as well, at the cost of few digits."""
        return bool((self.mean_D.abs() <= self.reach(self.mean_D) / 2).all())

    def reach(self, shift_D: Tensor) -> Tensor:
        """The largest |x - shift|, float64 (D,)."""
        return torch.maximum(self.high_D - shift_D, shift_D - self.low_D)

    def lengths(self, shift_D: Tensor) -> Tensor:
        """What the lengths of the columns of x - shift over a block are taken to stay within, float64 (D,), above 0."""
        return self.reach(shift_D).clamp(min=LEAST) * (RESERVE * self.rows**0.5)


def sample_of(comm: Comm, blocks: Blocks, view: View = as_they_are) -> Sample | None:
    """None if it has no rows, or values that are not finite or too large; or if the rows may be sparse."""
    if is_wide(blocks.num_features):
        return None
    some, thinned = blocks.sample(SAMPLE), _thinned(view)
    seen = unchecked_ends(comm, some, thinned)
    if not 0 < seen.weight <= seen.largest <= LARGEST:
        return None
    return Sample(
        mean_D=_means(comm, some, (seen.high_D, seen.low_D), thinned).to(seen.dtype).to(torch.float64),
        high_D=seen.high_D,
        low_D=seen.low_D,
        rows=rows_per_block(blocks.num_features),
        dtype=seen.dtype,
    )


def sample_means(comm: Comm, blocks: Blocks, ends_D: tuple[Tensor, Tensor], view: View) -> Tensor:
    """Of the columns in a view of the sample, between their high and low ends (D,): the middles if it has no row."""
    return _means(comm, blocks.sample(SAMPLE), ends_D, _thinned(view))


def _means(comm: Comm, some: Blocks, ends_D: tuple[Tensor, Tensor], view: View) -> Tensor:
    high_D, low_D = ends_D
    middle_D = (high_D + low_D) / 2
    there_D = middle_D.to(comm.device)

    def partial(block: Block) -> list[Tensor]:
        X_ND = view(block)
        count = torch.full((1,), float(len(X_ND)), dtype=torch.float64, device=block.device)
        one_1N = torch.ones(1, len(X_ND), dtype=torch.float64, device=block.device)
        return [count, product(one_1N, X_ND.to(torch.float64))[0] - count * there_D]

    rows = torch.full((1,), float(max(1, some.num_rows)), dtype=torch.float64)
    reach_D = high_D - low_D + ROUNDING * torch.maximum(high_D.abs(), low_D.abs())
    count, sum_D = sum_blocks(comm, some, partial, [rows, rows * reach_D])
    return (middle_D + sum_D / count.clamp(min=1)).clamp(low_D, high_D)


def _thinned(view: View) -> View:
    def rows(block: Block) -> Tensor | SparseRows:
        X_ND = view(block.take(THIN))
        return X_ND if isinstance(X_ND, SparseRows) else X_ND.contiguous()  # read twice

    return rows
