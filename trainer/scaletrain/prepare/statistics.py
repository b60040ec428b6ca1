"""Exact statistics of columns over the blocks of all ranks. NaN counts as missing.

Legend: N rows of a block, D features, P = D + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.ends import fold
from scaletrain.estimators.linalg import columns_about, gram
from scaletrain.estimators.moments import ROUNDED, SLACK, fits_single, moments
from scaletrain.estimators.sample import sample_of
from scaletrain.exact import max_over_blocks, sum_blocks, sum_blocks_within

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Products:
    """Equal on all ranks."""

    mean_D: Tensor  # float64
    product_DD: Tensor  # float64, sums of (x - mean)(x - mean)' over the rows
    peak: float  # bounds |x|


def products(comm: Comm, blocks: Blocks, view: View) -> Products:
    """Two passes, in float64: the sums of squares bound the products (Cauchy-Schwarz)."""
    x = moments(comm, blocks, weighted=False, view=view)
    rounded_D = 2 * torch.finfo(torch.float64).eps * x.peak_D  # the mean, and what is subtracted from
    norm_D = (x.square_D.sqrt() + x.weight**0.5 * rounded_D) * SLACK
    mean_D = x.mean_D.to(comm.device)

    def partial(block: Block) -> list[Tensor]:
        return [gram(view(block).to(torch.float64, copy=True).sub_(mean_D))]

    (total_DD,) = sum_blocks(comm, blocks, partial, [torch.outer(norm_D, norm_D)])
    return Products(mean_D=x.mean_D, product_DD=_symmetric(total_DD), peak=float(x.peak_D.max()))


def fast_products(comm: Comm, blocks: Blocks) -> Products | None:
    """From one pass over float32 features.

    A block's products are summed in float32 about the means of a sample: an entry is wrong by some 1e-7 of what bounds it, the
    lengths of its two columns about their means. None where float32 cannot do that, or the sample is not like the rows.
    """
    sample = sample_of(comm, blocks)
    if sample is None or sample.dtype is not torch.float32 or not fits_single(sample.reach(sample.mean_D)):
        return None
    there_D, rows = sample.mean_D.to(comm.device, torch.float32), float(blocks.num_rows)

    P = len(there_D) + 1

    def partial(block: Block) -> list[Tensor]:
        return [gram(columns_about(block.X_ND, there_D, torch.float32))[:P, :P].to(torch.float64)]

    limit_P = torch.cat([sample.lengths(sample.mean_D), torch.tensor([sample.rows**0.5], dtype=torch.float64)])
    found = sum_blocks_within(comm, blocks, partial, [torch.outer(limit_P, limit_P)])
    if found is None:
        return None
    about_DD, lean_D = found[0][:-1, :-1], found[0][:-1, -1]
    if bool((lean_D**2 / rows > about_DD.diagonal() / 2).any()):
        return None
    total_DD = about_DD - torch.outer(lean_D, lean_D) / rows
    return Products(
        mean_D=sample.mean_D + lean_D / rows,
        product_DD=_symmetric(total_DD),
        peak=float((sample.mean_D.abs() + about_DD.diagonal().sqrt() * ROUNDED).max()),
    )


def _symmetric(total_DD: Tensor) -> Tensor:
    """BLAS may round the two halves differently."""
    return (total_DD + total_DD.T) / 2


def _largest(X_ND: Tensor, none_D: Tensor) -> Tensor:
    """Largest magnitude in each column; `none_D` if there are no rows."""
    if not len(X_ND):
        return none_D
    largest_D = torch.maximum(fold(X_ND, torch.amax), -fold(X_ND, torch.amin))
    return X_ND.nan_to_num(nan=0.0).abs().amax(0) if bool(largest_D.isnan().any()) else largest_D
