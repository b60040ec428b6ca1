"""Exact statistics of columns over the blocks of all ranks. NaN counts as missing.

Legend: N rows of a block, D features.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.ends import Ends, as_they_are, fold
from scaletrain.estimators.linalg import gram, product
from scaletrain.estimators.moments import ROUNDED, SLACK, Moments, fits_single
from scaletrain.estimators.sample import sample_means
from scaletrain.exact import max_over_blocks, sum_blocks

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


def products(comm: Comm, blocks: Blocks, view: View, x: Moments) -> Tensor:
    """Sums of (x - mean)(x - mean)' over the rows, float64 (D, D). `x`: without weights; its squares bound them (Cauchy-Schwarz)."""
    rounded_D = 2 * torch.finfo(torch.float64).eps * x.peak_D  # the mean, and what is subtracted from
    norm_D = (x.square_D.sqrt() + x.weight**0.5 * rounded_D) * SLACK
    mean_D = x.mean_D.to(comm.device)

    def partial(block: Block) -> list[Tensor]:
        return [gram(view(block).to(torch.float64, copy=True).sub_(mean_D))]

    (total_DD,) = sum_blocks(comm, blocks, partial, [torch.outer(norm_D, norm_D)])
    return (total_DD + total_DD.T) / 2  # BLAS may round the two halves differently


def fast_products(comm: Comm, blocks: Blocks, seen: Ends) -> tuple[Tensor, Tensor] | None:
    """Means (D,) and sums of (x - mean)(x - mean)' over the rows (D, D), float64, from one pass over float32 features.

    A block's products are summed in float32 about the means of a sample: an entry is wrong by some 1e-7 of what bounds it, the
    lengths of its two columns about their means. None where float32 cannot do that.
    """
    shift_D = sample_means(comm, blocks, (seen.high_D, seen.low_D), as_they_are).to(
        torch.float32
    )
    reach_D = torch.maximum(seen.high_D - shift_D, shift_D - seen.low_D)
    if not fits_single(reach_D):
        return None
    there_D, rows = shift_D.to(comm.device), float(max(1, blocks.num_rows))

    def partial(block: Block) -> list[Tensor]:
        X_ND = block.X_ND - there_D
        one_1N = torch.ones(1, len(block), device=block.device)
        return [gram(X_ND).to(torch.float64), product(one_1N, X_ND)[0].to(torch.float64)]

    bounds = [torch.outer(reach_D, reach_D) * (rows * ROUNDED), reach_D * (rows * ROUNDED)]
    about_DD, lean_D = sum_blocks(comm, blocks, partial, bounds)
    if bool((lean_D**2 / rows > about_DD.diagonal() / 2).any()):  # the sample was not like the rows
        return None
    total_DD = about_DD - torch.outer(lean_D, lean_D) / rows
    return shift_D + lean_D / rows, (total_DD + total_DD.T) / 2


def _largest(X_ND: Tensor, none_D: Tensor) -> Tensor:
    """Largest magnitude in each column; `none_D` if there are no rows."""
    if not len(X_ND):
        return none_D
    largest_D = torch.maximum(fold(X_ND, torch.amax), -fold(X_ND, torch.amin))
    return X_ND.nan_to_num(nan=0.0).abs().amax(0) if bool(largest_D.isnan().any()) else largest_D
