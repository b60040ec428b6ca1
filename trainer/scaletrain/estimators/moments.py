"""What the fits need to know of the features first: how large they are, their means, and bounds for exact sums.

Legend: N rows of a block, D features, P = D + 1.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.sparse import SparseRows
from scaletrain.errors import InvalidData
from scaletrain.exact import max_over_blocks, sum_blocks

from .linalg import product

# Sums of squares bound inner products (Cauchy-Schwarz) in exact arithmetic; this covers the rounding of a block's sums.
SLACK = 1 + 1e-6
# Sums of a block that are taken about 0 and then moved to a shift, for each row by the largest value: 2^14 rows, twice 2^-53 each.
CANCELLED = 1e-11
CANCELLED_SQUARE = 1e-9  # the same for sums of squares, of the largest square
ROUNDED = 1.01  # sums in float32 may exceed their bounds by rounding
SINGLE = (1e-15, 1e15)  # magnitudes between which products in float32 neither vanish nor overflow
SAMPLE = 8  # each 8th block tells where the rows are
LEAST, LARGEST = 1e-140, 1e140  # between them squares in float64, and their sums, neither vanish nor overflow
FOLD = 64
View = Callable[[Block], Tensor | SparseRows]  # a block's features, changed or as they are


def as_they_are(block: Block) -> Tensor | SparseRows:
    return block.X_ND


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Equal on all ranks. Weighted, or with all weights 1, as asked for."""

    weight: float  # sum of the weights
    max_weight: float
    peak_D: Tensor  # float64, largest |x|
    mean_D: Tensor  # float64
    square_D: Tensor  # float64, sum of weight * (x - mean)^2
    dtype: torch.dtype  # of the features
    is_weighted: bool  # whether a row has a weight, asked for or not

    @property
    def spread_D(self) -> Tensor:
        """Standard deviations (float64, divided by the sum of weights)."""
        return (self.square_D / self.weight).sqrt()

    @property
    def is_constant_D(self) -> Tensor:
        """Columns whose deviations from the mean are rounding only."""
        return self.square_D <= self.weight * (4 * torch.finfo(torch.float64).eps * self.peak_D) ** 2

    def lengths(self, shift_D: Tensor) -> Tensor:
        """Bounds on the lengths of the columns of (x - shift, 1), float64 (P,), if their sums over a block are taken about 0."""
        length_D = (self.square_D + self.weight * (self.mean_D - shift_D) ** 2).sqrt()
        length_D += CANCELLED * self.weight**0.5 * self.peak_D.clamp(min=LEAST) * (self.peak_D > 0)
        return torch.cat([length_D, torch.tensor([self.weight**0.5], dtype=torch.float64)]) * SLACK

    def varying(self, shift_D: Tensor) -> Tensor:
        """1 for the columns of (x - shift, 1) from which something can be learned, else 0: float64 (P,)."""
        is_rounding_D = self.is_constant_D & (shift_D != 0)
        return torch.cat([~is_rounding_D, torch.ones(1, dtype=torch.bool)]).to(torch.float64)


def moments(comm: Comm, blocks: Blocks, *, weighted: bool, view: View = as_they_are) -> Moments:
    """Of the features in a view of the blocks. Two passes: the ends of the columns, then sums and squares about their middles.

    The middle costs the squares log10(N) digits at most, because the ends are rows as well. InvalidData if a value or weight
    is not finite, or all weights are 0.
    """
    seen = ends(comm, blocks, view)
    weighted = weighted and seen.is_weighted
    largest = seen.weight if weighted else 1.0
    middle_D, reach_D = (seen.high_D + seen.low_D) / 2, (seen.high_D - seen.low_D)

    there_D = middle_D.to(comm.device)

    def partial(block: Block) -> list[Tensor]:
        weight_N = row_weights(block) if weighted else _ones(block)
        seen_ND = view(block)
        if isinstance(seen_ND, SparseRows):
            return _sparse_sums(seen_ND, weight_N, middle_D)
        X_ND = seen_ND.to(torch.float64, copy=True).sub_(there_D)
        return [weight_N.sum(), weight_N @ X_ND, weight_N @ X_ND.square_()]

    bound = torch.tensor(max(blocks.num_rows, 1) * largest, dtype=torch.float64)
    weight, sum_D, square_D = sum_blocks(comm, blocks, partial, [bound, bound * reach_D, bound * reach_D**2])
    if weight <= 0:
        raise InvalidData("there is nothing to learn from: no row has a weight above 0")
    return Moments(
        weight=float(weight),
        max_weight=largest,
        peak_D=seen.peak_D,
        mean_D=middle_D + sum_D / weight,
        square_D=(square_D - sum_D**2 / weight).clamp(min=0),
        dtype=seen.dtype,
        is_weighted=seen.is_weighted,
    )


def _sparse_sums(X_ND: SparseRows, weight_N: Tensor, middle_D: Tensor) -> list[Tensor]:
    """What `moments` sums over a block, from sums about 0."""
    first_D, second_D = X_ND.left(weight_N[None])[0], X_ND.square().left(weight_N[None])[0]
    weight = weight_N.sum()
    square_D = second_D - 2 * middle_D * first_D + middle_D**2 * weight
    return [weight, first_D - middle_D * weight, square_D.clamp_(min=0)]


def row_weights(block: Block) -> Tensor:
    """The weights of the block's rows, float64."""
    return _ones(block) if block.weight_N is None else block.weight_N


def _ones(block: Block) -> Tensor:
    return torch.ones(len(block), dtype=torch.float64, device=block.device)


def max_weight(comm: Comm, blocks: Blocks) -> float:
    """The largest weight of a row, at least 0."""
    start = torch.zeros(1, dtype=torch.float64)
    return float(max_over_blocks(comm, blocks.featureless, lambda block: _peak(row_weights(block)[:, None]), start)[0])


def max_target(comm: Comm, blocks: Blocks) -> float:
    """The largest |y|. InvalidData if one is not finite, or too large."""
    start = torch.zeros(1, dtype=torch.float64)
    peak = float(
        max_over_blocks(comm, blocks.featureless, lambda block: _peak(block.y_N[:, None].to(torch.float64)), start)[0]
    )
    check_target(peak)
    return peak


def check_target(peak: float) -> None:
    """InvalidData if the largest |y| is not finite, or too large."""
    if peak > LARGEST:
        raise InvalidData(f"the label has {_bad(peak)}")


def _bad(peak: float) -> str:
    return "NaN or infinite values" if peak == float("inf") else f"values beyond {LARGEST:g}, too large to be squared"


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


def ends(comm: Comm, blocks: Blocks, view: View = as_they_are) -> Ends:
    """Of the features in a view of the blocks, in one pass. InvalidData if a value or weight is not finite, or too large."""
    D = blocks.num_features
    start = torch.cat([torch.full((2 * D,), -torch.inf, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)])

    def of_block(block: Block) -> Tensor:
        X_ND = view(block)
        flags = [X_ND.dtype == torch.float64, block.weight_N is not None]
        weight = _peak(row_weights(block)[:, None])
        flags_2 = torch.tensor(flags, dtype=torch.float64).to(block.device)
        return torch.cat([*_high_and_negative_low(X_ND), weight, flags_2])

    found = max_over_blocks(comm, blocks, of_block, start)
    high_D, low_D, (weight, is_double, is_weighted) = found[:D], -found[D : 2 * D], found[2 * D :].tolist()
    no_rows_D = high_D == -torch.inf
    peak_D = torch.maximum(high_D, -low_D).masked_fill(no_rows_D, 0)
    peak = max(weight, float(peak_D.max()))
    if peak > LARGEST:
        bad = torch.nonzero(peak_D > LARGEST).flatten().tolist()
        where = f"features number {', '.join(map(str, bad[:10]))} (from 0)" if bad else "the weights"
        raise InvalidData(f"{_bad(peak)} in {where}")
    return Ends(
        high_D=high_D.masked_fill(no_rows_D, 0),
        low_D=low_D.masked_fill(no_rows_D, 0),
        weight=weight,
        dtype=torch.float64 if is_double else torch.float32,
        is_weighted=bool(is_weighted),
    )


def sample_means(comm: Comm, blocks: Blocks, ends_C: tuple[Tensor, Tensor], sums: Callable[[Block], Tensor]) -> Tensor:
    """Means of columns over a sample of the rows, between their high and low ends (C,): the middles if it has no row.

    `sums`: of a block's columns, float64 (C,).
    """
    high_C, low_C = ends_C
    middle_C = (high_C + low_C) / 2

    def partial(block: Block) -> list[Tensor]:
        count = torch.full((1,), float(len(block)), dtype=torch.float64, device=block.device)
        return [count, sums(block) - len(block) * middle_C.to(block.device)]

    rows = torch.full((1,), float(max(1, blocks.num_rows)), dtype=torch.float64)
    reach_C = (high_C - low_C) * SLACK + 1e-9 * torch.maximum(high_C.abs(), low_C.abs())
    count, sum_C = sum_blocks(comm, blocks.sample(SAMPLE), partial, [rows, rows * reach_C])
    return (middle_C + sum_C / count.clamp(min=1)).clamp(low_C, high_C)


def column_sums(block: Block) -> Tensor:
    """Of the features, float64 (D,)."""
    return product(_ones(block)[None], block.X_ND.to(torch.float64))[0]


def fits_single(reach_D: Tensor) -> bool:
    """Whether float32 holds the products of any two columns of these magnitudes."""
    return bool(((reach_D == 0) | ((reach_D > SINGLE[0]) & (reach_D < SINGLE[1]))).all())


def _high_and_negative_low(X_ND: Tensor | SparseRows) -> list[Tensor]:
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


def _peak(values_ND: Tensor) -> Tensor:
    """Largest magnitude by column, float64; infinity where there is a NaN, because a maximum over ranks may drop NaN."""
    if not len(values_ND):
        return torch.zeros(values_ND.shape[1], dtype=torch.float64, device=values_ND.device)
    return values_ND.abs().amax(0).to(torch.float64).nan_to_num(nan=float("inf"), posinf=float("inf"))
