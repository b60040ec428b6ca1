"""The ends of the columns, which bound all that is computed of them.

Legend: N rows of a block, D features.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.sparse import SparseRows
from scaletrain.errors import InvalidData
from scaletrain.exact import max_over_blocks

LEAST, LARGEST = 1e-140, 1e140  # between them squares in float64, and their sums, neither vanish nor overflow
FOLD = 64
View = Callable[[Block], Tensor | SparseRows]  # a block's features, changed or as they are


def as_they_are(block: Block) -> Tensor | SparseRows:
    return block.X_ND


def rounding(peak_D: Tensor) -> Tensor:
    """Deviations up to which columns of values up to this size count as constant."""
    return 4 * torch.finfo(torch.float64).eps * peak_D


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """Of the columns. Equal on all ranks; those without blocks cannot know them by themselves."""

    high_D: Tensor  # float64
    low_D: Tensor
    weight: float  # the largest
    dtype: torch.dtype
    is_weighted: bool

    @property
    def peak_D(self) -> Tensor:
        return torch.maximum(self.high_D.abs(), self.low_D.abs())

    @property
    def is_constant_D(self) -> Tensor:
        """Columns whose deviations from their middles are rounding only."""
        return self.high_D - self.low_D <= 2 * rounding(self.peak_D)

    @property
    def largest(self) -> float:
        """Of values and weights; infinity if one is not finite."""
        return max(self.weight, float(self.peak_D.max()))

    def check(self) -> None:
        """InvalidData if a value or weight is not finite, or too large."""
        if self.largest > LARGEST:
            bad = torch.nonzero(self.peak_D > LARGEST).flatten().tolist()
            where = f"features number {', '.join(map(str, bad[:10]))} (from 0)" if bad else "the weights"
            raise InvalidData(f"{bad_values(self.largest)} in {where}")


def ends(comm: Comm, blocks: Blocks, view: View = as_they_are) -> Ends:
    """Of the features in a view of the blocks, in one pass. InvalidData if a value or weight is not finite, or too large."""
    seen = unchecked_ends(comm, blocks, view)
    seen.check()
    return seen


def unchecked_ends(comm: Comm, blocks: Blocks, view: View) -> Ends:
    """As `ends`, with infinite ends where a value is not finite."""
    D = blocks.num_features
    start = torch.cat([torch.full((2 * D,), -torch.inf, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)])

    def of_block(block: Block) -> Tensor:
        X_ND = view(block)
        flags = [X_ND.dtype == torch.float64, block.weight_N is not None]
        weight = largest_weight(block)
        flags_2 = torch.tensor(flags, dtype=torch.float64).to(block.device)
        return torch.cat([*high_and_negative_low(X_ND), weight, flags_2])

    found = max_over_blocks(comm, blocks, of_block, start)
    high_D, low_D, (weight, is_double, is_weighted) = found[:D], -found[D : 2 * D], found[2 * D :].tolist()
    no_rows_D = high_D == -torch.inf
    return Ends(
        high_D=high_D.masked_fill(no_rows_D, 0),
        low_D=low_D.masked_fill(no_rows_D, 0),
        weight=weight,
        dtype=torch.float64 if is_double else torch.float32,
        is_weighted=bool(is_weighted),
    )


def largest_weight(block: Block) -> Tensor:
    """Of a row, float64 (1,); at least 0, infinity if one is not finite."""
    if block.weight_N is None:
        return torch.full((1,), float(len(block) > 0), dtype=torch.float64, device=block.device)
    return peak(block.weight_N[:, None])


def bad_values(largest: float) -> str:
    """What is wrong with values whose largest is beyond LARGEST."""
    return (
        "NaN or infinite values" if largest == float("inf") else f"values beyond {LARGEST:g}, too large to be squared"
    )


def high_and_negative_low(X_ND: Tensor | SparseRows) -> list[Tensor]:
    """Maxima of x and of -x by column, float64; infinity where there is a NaN, because a maximum over ranks may drop NaN."""
    N, D = X_ND.shape
    if not N:
        return [torch.full((D,), -torch.inf, dtype=torch.float64, device=X_ND.device)] * 2
    if isinstance(X_ND, SparseRows):
        return [torch.from_numpy(X_ND.max(axis=0)), torch.from_numpy(-X_ND.min(axis=0))]
    found = (fold(X_ND, torch.amax), -fold(X_ND, torch.amin))
    return [end.to(torch.float64).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf) for end in found]


def fold(X_ND: Tensor, extreme: Callable[..., Tensor]) -> Tensor:
    """`torch.amax` or `torch.amin` of each column; N > 0. Those of long rows are computed three times faster than of short ones."""
    N, D = X_ND.shape
    whole = N - N % FOLD
    folded, rest = X_ND[:whole].reshape(-1, FOLD * D), X_ND[whole:]
    return extreme(torch.cat([extreme(folded, 0).view(FOLD, D), rest] if whole else [rest]), 0)


def peak(values_ND: Tensor) -> Tensor:
    """Largest magnitude by column, float64; infinity where there is a NaN, because a maximum over ranks may drop NaN."""
    if not len(values_ND):
        return torch.zeros(values_ND.shape[1], dtype=torch.float64, device=values_ND.device)
    return values_ND.abs().amax(0).to(torch.float64).nan_to_num(nan=float("inf"), posinf=float("inf"))
