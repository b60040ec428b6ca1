"""What the fits need to know of the features first: how large they are, their means, and bounds for exact sums.

Legend: N rows of a block, D features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.errors import InvalidData
from scaletrain.exact import max_over_blocks, sum_blocks

# Sums of squares bound inner products (Cauchy-Schwarz) in exact arithmetic; this covers the rounding of a block's sums.
SLACK = 1 + 1e-6


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


def moments(comm: Comm, blocks: Blocks, *, weighted: bool) -> Moments:
    """Three passes: peaks, means, squares about the mean. InvalidData if a value or weight is not finite, or all weights are 0."""
    peak_D, (largest, is_double, is_weighted) = _peaks(comm, blocks)
    weighted = weighted and bool(is_weighted)
    largest = largest if weighted else 1.0
    count = torch.tensor(float(max(blocks.num_rows, 1)), dtype=torch.float64)

    def first(block: Block) -> list[Tensor]:
        weight_N = row_weights(block) if weighted else torch.ones(len(block), dtype=torch.float64)
        return [weight_N.sum(), weight_N @ block.X_ND.to(torch.float64)]

    weight, sum_D = sum_blocks(comm, blocks, first, [count * largest, count * largest * peak_D])
    if weight <= 0:
        raise InvalidData("there is nothing to learn from: no row has a weight above 0")
    mean_D = sum_D / weight

    def second(block: Block) -> list[Tensor]:
        centred_ND = block.X_ND.to(torch.float64) - mean_D
        weight_N = row_weights(block) if weighted else torch.ones(len(block), dtype=torch.float64)
        return [weight_N @ centred_ND.square_()]

    (square_D,) = sum_blocks(comm, blocks, second, [count * largest * (2 * peak_D) ** 2])
    return Moments(
        weight=float(weight),
        max_weight=largest,
        peak_D=peak_D,
        mean_D=mean_D,
        square_D=square_D,
        dtype=torch.float64 if is_double else torch.float32,
        is_weighted=bool(is_weighted),
    )


def row_weights(block: Block) -> Tensor:
    """The weights of the block's rows, float64."""
    return torch.ones(len(block), dtype=torch.float64) if block.weight_N is None else block.weight_N


def max_weight(comm: Comm, blocks: Blocks) -> float:
    """The largest weight of a row, at least 0."""
    start = torch.zeros(1, dtype=torch.float64)
    return float(max_over_blocks(comm, blocks, lambda block: _peak(row_weights(block)[:, None]), start)[0])


def max_target(comm: Comm, blocks: Blocks) -> float:
    """The largest |y|. InvalidData if one is not finite."""
    start = torch.zeros(1, dtype=torch.float64)
    peak = float(max_over_blocks(comm, blocks, lambda block: _peak(block.y_N[:, None].to(torch.float64)), start)[0])
    if peak == float("inf"):
        raise InvalidData("the label has NaN or infinite values")
    return peak


def _peaks(comm: Comm, blocks: Blocks) -> tuple[Tensor, list[float]]:
    """Largest |x| by column; largest weight, whether features are float64, whether there are weights.

    Ranks without blocks cannot know the latter by themselves.
    """

    def peaks(block: Block) -> Tensor:
        flags = [block.X_ND.dtype == torch.float64, block.weight_N is not None]
        return torch.cat(
            [_peak(block.X_ND), _peak(row_weights(block)[:, None]), torch.tensor(flags, dtype=torch.float64)]
        )

    found = max_over_blocks(comm, blocks, peaks, torch.zeros(blocks.num_features + 3, dtype=torch.float64))
    peak_D, rest = found[:-3], found[-3:]
    if not bool(torch.isfinite(found).all()):
        bad = torch.nonzero(~torch.isfinite(peak_D)).flatten().tolist()
        where = f"features number {', '.join(map(str, bad[:10]))} (from 0)" if bad else "the weights"
        raise InvalidData(f"NaN or infinite values in {where}")
    return peak_D, rest.tolist()


def _peak(values_ND: Tensor) -> Tensor:
    """Largest magnitude by column, float64; infinity where there is a NaN, because a maximum over ranks may drop NaN."""
    if not len(values_ND):
        return torch.zeros(values_ND.shape[1], dtype=torch.float64)
    return values_ND.abs().amax(0).to(torch.float64).nan_to_num(nan=float("inf"), posinf=float("inf"))
