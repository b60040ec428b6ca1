"""What the fits need to know of the features first: how large they are, their means, and bounds for exact sums.

Legend: N rows of a block, D features, P = D + 1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.sparse import SparseRows
from scaletrain.errors import InvalidData
from scaletrain.exact import max_over_blocks, sum_blocks, sum_blocks_within

from .ends import LARGEST, LEAST, View, as_they_are, bad_values, ends, largest_weight, peak, rounding
from .linalg import cached_rows, product
from .sample import RESERVE, Sample, sample_of

# Sums of squares bound inner products (Cauchy-Schwarz) in exact arithmetic; this covers the rounding of a block's sums.
SLACK = 1 + 1e-6
# Sums of a block that are taken about 0 and then moved to a shift, for each row by the largest value: 2^14 rows, twice 2^-53 each.
CANCELLED = 1e-11
CANCELLED_SQUARE = 1e-9  # the same for sums of squares, of the largest square
FAR = 100.0  # squares about a shift by those about the mean, before digits are lost
FAR_SINGLE = 10.0  # the same for sums in float32, of which a hundredth may be lost
ROUNDED = 1.01  # sums in float32 may exceed their bounds by rounding
CONSTANT = 1e-6  # deviations by the largest value: of a column that varies by less, a sample does not tell enough
SINGLE = (1e-15, 1e15)  # magnitudes between which products in float32 neither vanish nor overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Equal on all ranks. Weighted, or with all weights 1, as asked for."""

    weight: float  # sum of the weights
    max_weight: float
    peak_D: Tensor  # float64, bounds |x|
    mean_D: Tensor  # float64
    square_D: Tensor  # float64, sum of weight * (x - mean)^2
    dtype: torch.dtype  # of the features
    is_weighted: bool  # whether a row has a weight, asked for or not
    are_of_a_block: bool = False  # guessed, from above, for each block: sums over one have to be checked against them

    @property
    def spread_D(self) -> Tensor:
        """Standard deviations (float64, divided by the sum of weights)."""
        return (self.square_D / self.weight).sqrt()

    @property
    def is_constant_D(self) -> Tensor:
        """Columns whose deviations from the mean are rounding only."""
        return self.square_D <= self.weight * rounding(self.peak_D) ** 2

    def lengths(self, shift_D: Tensor) -> Tensor:
        """Bounds on the lengths of the columns of (x - shift, 1), float64 (P,), if their sums over a block are taken about 0."""
        length_D = (self.square_D + self.weight * (self.mean_D - shift_D) ** 2).sqrt()
        length_D += CANCELLED * self.weight**0.5 * self.peak_D.clamp(min=LEAST) * (self.peak_D > 0)
        return torch.cat([length_D, torch.tensor([self.weight**0.5], dtype=torch.float64)]) * SLACK

    def varying(self, shift_D: Tensor) -> Tensor:
        """1 for the columns of (x - shift, 1) from which something can be learned, else 0: float64 (P,)."""
        is_rounding_D = self.is_constant_D & (shift_D != 0)
        return torch.cat([~is_rounding_D, torch.ones(1, dtype=torch.bool)]).to(torch.float64)


def moments(
    comm: Comm, blocks: Blocks, *, weighted: bool, view: View = as_they_are, are_rough_enough: bool = False
) -> Moments:
    """Of the features in a view of the blocks. InvalidData if a value or weight is not finite, or all weights are 0.

    One pass, about the means of a sample of the rows, where that is enough; else two more. are_rough_enough: the means are
    wanted for a shift only, and the squares for bounds, so that float32 may do.
    """
    return _sampled_moments(comm, blocks, weighted, view, are_rough_enough) or _careful_moments(
        comm, blocks, weighted, view
    )


def guessed_moments(comm: Comm, blocks: Blocks) -> Moments | None:
    """What a sample of the rows says of any one block, without a pass over the others.

    None where it may not do: with a column that is constant in the sample, which it need not be elsewhere.
    """
    largest, is_weighted = weights(comm, blocks)
    sample = sample_of(comm, blocks)
    if sample is None or largest > LARGEST:
        return None
    reach_D, peak_D = sample.reach(sample.mean_D), torch.maximum(sample.high_D.abs(), sample.low_D.abs())
    if not bool((reach_D > CONSTANT * peak_D).all()):
        return None
    return Moments(
        weight=float(sample.rows),
        max_weight=1.0,
        peak_D=peak_D + RESERVE * reach_D,
        mean_D=sample.mean_D,
        square_D=sample.rows * (RESERVE * reach_D) ** 2,
        dtype=sample.dtype,
        is_weighted=is_weighted,
        are_of_a_block=True,
    )


def _sampled_moments(comm: Comm, blocks: Blocks, weighted: bool, view: View, are_rough_enough: bool) -> Moments | None:
    """None with weights: sums in which a row may not count do not bound the values. None if the sample is not like the rows."""
    largest, is_weighted = weights(comm, blocks)
    sample = sample_of(comm, blocks, view)
    if sample is None or (weighted and is_weighted) or largest > LARGEST:
        return None
    if are_rough_enough and sample.dtype is torch.float32 and fits_single(sample.reach(sample.mean_D)):
        rough = _moments_like(sample, comm, blocks, view, torch.float32, is_weighted)
        if rough is not None:
            return rough
    return _moments_like(sample, comm, blocks, view, torch.float64, is_weighted)


def _moments_like(
    sample: Sample, comm: Comm, blocks: Blocks, view: View, dtype: torch.dtype, is_weighted: bool
) -> Moments | None:
    """Summed in `dtype`. None if the rows are not like the sample."""
    is_single = dtype is torch.float32
    is_own = not (is_single and sample.is_near)  # whether values are changed, and so copied first
    shift_D = torch.zeros_like(sample.mean_D) if sample.is_near else sample.mean_D
    there_D = shift_D.to(comm.device, dtype)

    def partial(block: Block) -> list[Tensor]:
        sum_2D = torch.zeros(2, len(shift_D), dtype=torch.float64, device=block.device)
        for X_RD in view(block).split(cached_rows(len(shift_D))):
            one_1R, X_RD = X_RD.new_ones(1, len(X_RD), dtype=dtype), X_RD.to(dtype, copy=is_own)
            if not sample.is_near:
                X_RD.sub_(there_D)
            sum_2D[0] += product(one_1R, X_RD)[0]
            sum_2D[1] += product(one_1R, X_RD.square_() if is_own else X_RD.square())[0]
        return list(sum_2D)

    limit_D = sample.lengths(shift_D)
    found = sum_blocks_within(comm, blocks, partial, [limit_D * sample.rows**0.5, limit_D**2])
    if found is None:
        return None
    (sum_D, about_D), weight = found, float(blocks.num_rows)
    square_D = (about_D - sum_D**2 / weight).clamp(min=0)
    if bool((about_D > (FAR_SINGLE if is_single else FAR) * square_D).any()):
        return None
    slack = ROUNDED if is_single else SLACK
    return Moments(
        weight=weight,
        max_weight=1.0,
        peak_D=(shift_D.abs() + about_D.sqrt()) * slack,
        mean_D=shift_D + sum_D / weight,
        square_D=square_D * slack**2 if is_single else square_D,
        dtype=sample.dtype,
        is_weighted=is_weighted,
    )


def _careful_moments(comm: Comm, blocks: Blocks, weighted: bool, view: View) -> Moments:
    """Two passes: the ends of the columns, then sums and squares about their middles.

    The middle costs the squares log10(N) digits at most, because the ends are rows as well.
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
    sum_bound_D = reach_D + CANCELLED * seen.peak_D  # sparse rows are summed about 0
    square_bound_D = reach_D**2 + CANCELLED_SQUARE * seen.peak_D**2
    weight, sum_D, square_D = sum_blocks(comm, blocks, partial, [bound, bound * sum_bound_D, bound * square_bound_D])
    if weight <= 0:
        raise InvalidData("there is nothing to learn from: no row has a weight above 0")
    return Moments(
        weight=float(weight),
        max_weight=largest,
        peak_D=seen.peak_D,
        mean_D=middle_D + sum_D / weight,
        square_D=(square_D - sum_D**2 / weight).clamp(min=0).masked_fill(seen.is_constant_D, 0),
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
    return weights(comm, blocks)[0]


def weights(comm: Comm, blocks: Blocks) -> tuple[float, bool]:
    """The largest weight of a row, at least 0; infinity if one is not finite. And whether a row has one."""

    def of_block(block: Block) -> Tensor:
        is_weighted = torch.full((1,), float(block.weight_N is not None), dtype=torch.float64, device=block.device)
        return torch.cat([largest_weight(block), is_weighted])

    found = max_over_blocks(comm, blocks.featureless, of_block, torch.zeros(2, dtype=torch.float64))
    return float(found[0]), bool(found[1])


def max_target(comm: Comm, blocks: Blocks) -> float:
    """The largest |y|. InvalidData if one is not finite, or too large."""
    start = torch.zeros(1, dtype=torch.float64)
    found = max_over_blocks(comm, blocks.featureless, lambda block: peak(block.y_N[:, None].to(torch.float64)), start)
    check_target(float(found[0]))
    return float(found[0])


def check_target(largest: float) -> None:
    """InvalidData if the largest |y| is not finite, or too large."""
    if largest > LARGEST:
        raise InvalidData(f"the label has {bad_values(largest)}")


def fits_single(reach_D: Tensor) -> bool:
    """Whether float32 holds the products of any two columns of these magnitudes."""
    return bool(((reach_D == 0) | ((reach_D > SINGLE[0]) & (reach_D < SINGLE[1]))).all())
