"""Exact statistics of columns over the blocks of all ranks. NaN counts as missing.

Legend: N rows of a block, D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.exact import max_over_blocks, sum_blocks

# Order statistics sort copies of this many values at once.
SORTED_VALUES = 1 << 23
View = Callable[[Block], Tensor]  # a block's features as float64, after the steps that come before


def means(comm: Comm, blocks: Blocks, view: View) -> tuple[Tensor, Tensor]:
    """Mean (NaN where there is no value) and number of values of each column, float64 (D,)."""
    zero_D = torch.zeros(blocks.num_features, dtype=torch.float64, device=comm.device)
    largest_D = max_over_blocks(comm, blocks, lambda b: _largest(view(b), zero_D), zero_D)
    rows_D = torch.full_like(zero_D, blocks.num_rows + 1)

    def partial(block: Block) -> tuple[Tensor, Tensor]:
        X_ND = view(block)
        return X_ND.nansum(0), (~X_ND.isnan()).sum(0).to(torch.float64)

    total_D, count_D = sum_blocks(comm, blocks, partial, [largest_D * rows_D, rows_D])
    return total_D / count_D, count_D


def largest(comm: Comm, blocks: Blocks) -> float:
    """The largest magnitude of a feature."""
    zero_D = torch.zeros(blocks.num_features, dtype=torch.float64, device=comm.device)
    return float(max_over_blocks(comm, blocks, lambda b: _largest(b.X_ND, zero_D).to(torch.float64), zero_D).max())


def squares(comm: Comm, blocks: Blocks, view: View) -> Tensor:
    """Sum of the squares of each column, float64 (D,). Nothing may be missing."""
    zero_D = torch.zeros(blocks.num_features, dtype=torch.float64, device=comm.device)
    largest_D = max_over_blocks(comm, blocks, lambda b: _largest(view(b), zero_D), zero_D)
    bound_D = largest_D**2 * (blocks.num_rows + 1)
    (total_D,) = sum_blocks(comm, blocks, lambda b: [(view(b) ** 2).sum(0)], [bound_D])
    return total_D


def products(comm: Comm, blocks: Blocks, view: View, square_D: Tensor) -> Tensor:
    """Sums of the products of every two columns, float64 (D, D). `square_D`: their squares, which bound them (Cauchy-Schwarz)."""
    norm_D = square_D.sqrt() * (1 + 1e-9)  # a block's sums are rounded

    def partial(block: Block) -> list[Tensor]:
        X_ND = view(block)
        return [X_ND.T @ X_ND]

    (total_DD,) = sum_blocks(comm, blocks, partial, [torch.outer(norm_D, norm_D)])
    return (total_DD + total_DD.T) / 2  # BLAS may round the two halves differently


def medians(comm: Comm, blocks: Blocks, view: View) -> Tensor:
    """Median of the values of each column, float64 (D,), exactly: NaN where there is none."""
    most = comm.all_reduce(torch.full((1,), blocks.num_rows, device=comm.device)) // comm.size
    width = max(1, SORTED_VALUES // max(1, int(most)))
    groups = torch.arange(blocks.num_features, device=comm.device).split(width)
    return torch.cat([_medians(comm, blocks, lambda b, g=group: view(b)[:, g], len(group)) for group in groups])


def _medians(comm: Comm, blocks: Blocks, view: View, num_columns: int) -> Tensor:
    empty = torch.empty((0, num_columns), dtype=torch.float64, device=comm.device)
    X_DN = torch.cat([empty, *blocks.map(view)]).T
    missing_D = X_DN.isnan().sum(1)
    # NaN sorts last: the first N - missing places of a row are its values.
    key_DN = _ordered(X_DN.sort(dim=1).values)
    count_D = comm.all_reduce(X_DN.shape[1] - missing_D)
    low_D = _order_statistic(comm, key_DN, X_DN.shape[1] - missing_D, (count_D - 1) // 2)
    high_D = _order_statistic(comm, key_DN, X_DN.shape[1] - missing_D, count_D // 2)
    middle_D = (_value(low_D) + _value(high_D)) / 2
    return torch.where(count_D > 0, middle_D, torch.nan)


def _order_statistic(comm: Comm, key_DN: Tensor, length_D: Tensor, place_D: Tensor) -> Tensor:
    """The key at `place_D` (from 0) of all ranks' keys, by halving the range of int64 64 times. Rows of key_DN ascend."""
    low_D = torch.full_like(place_D, torch.iinfo(torch.int64).min)
    high_D = torch.full_like(place_D, torch.iinfo(torch.int64).max)
    for _ in range(64):
        middle_D = (low_D & high_D) + ((low_D ^ high_D) >> 1)  # the mean, rounded down, without overflow
        below_D = torch.searchsorted(key_DN, middle_D[:, None], right=True)[:, 0]
        enough_D = comm.all_reduce(torch.minimum(below_D, length_D)) > place_D
        high_D = torch.where(enough_D, middle_D, high_D)
        low_D = torch.where(enough_D, low_D, middle_D + 1)
    return high_D


def _ordered(value: Tensor) -> Tensor:
    """float64 -> int64 with the same order; the two zeros are one."""
    bits = (value + 0.0).contiguous().view(torch.int64)
    return bits ^ ((bits >> 63) & torch.iinfo(torch.int64).max)


def _value(key: Tensor) -> Tensor:
    """The inverse of `_ordered`: flipping the same bits again."""
    return (key ^ ((key >> 63) & torch.iinfo(torch.int64).max)).view(torch.float64)


def _largest(X_ND: Tensor, none_D: Tensor) -> Tensor:
    """Largest magnitude in each column; `none_D` if there are no rows."""
    return X_ND.nan_to_num(nan=0.0).abs().amax(0) if len(X_ND) else none_D
