"""The rows of a least-squares problem about a shift, and the exact sums over them.

    minimise  sum_i c_i (y_i - x_i w - a)^2 + l2 |w|^2

Inside, features and target are taken about a shift near their means (those of a sample of the rows; 0 if all lie near it). A
point is (w, b) with x_i w + a = (x_i - shift) w + b + shift_y. Without an intercept the shifts are 0 and b is not used.

Legend: N rows of a block, D features, P = D + 1 (x - shift, 1), Q = D + 2 (x - shift, 1, y - shift_y).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.sparse import Shifted, SparseRows
from scaletrain.errors import InvalidData
from scaletrain.estimators.ends import LARGEST, Ends, as_they_are, ends, largest_weight, rounding
from scaletrain.estimators.limits import is_wide
from scaletrain.estimators.linalg import columns_about, gram, product, scores, squares_about
from scaletrain.estimators.moments import CANCELLED, CANCELLED_SQUARE, ROUNDED, SLACK, fits_single, row_weights
from scaletrain.estimators.sample import sample_means, sample_of
from scaletrain.exact import max_over_blocks, sum_blocks, sum_blocks_within

LOOSE = 2.0**20  # how much the bounds of sums of squares may exceed them


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastSquares:
    """Equal on all ranks but for the blocks. Costs are the weights divided by the largest one."""

    comm: Comm
    blocks: Blocks
    dtype: torch.dtype  # of the features
    scale: float  # the largest weight: what costs are multiplied with
    seen: Ends | None  # None: only a sample of the rows has been seen, in which no column is constant
    shift_D: Tensor  # float64, exact in the dtype of the features
    shift_y: float
    norm_Q: Tensor  # bounds on the lengths of the columns sqrt(c) * (x - shift, 1, y - shift_y); before the first sums, perhaps guesses
    fit_intercept: bool

    @property
    def free(self) -> int:
        """Coordinates of a point that may change."""
        return len(self.shift_D) + self.fit_intercept

    @property
    def is_shifted(self) -> bool:
        return bool((self.shift_D != 0).any())

    @property
    def is_constant_D(self) -> Tensor:
        """Columns whose deviations from their middles are rounding only. They are learned by the intercept."""
        if self.seen is None:
            return torch.zeros(len(self.shift_D), dtype=torch.bool)
        return self.seen.is_constant_D & self.fit_intercept

    @property
    def peak_D(self) -> Tensor:
        """The largest |x| where that matters to what is rounding."""
        return torch.zeros_like(self.shift_D) if self.seen is None else self.seen.peak_D

    @property
    def fast_dtype(self) -> torch.dtype:
        """Of a first look at the moments: float32 if the features are, and products of all columns can be told in it."""
        return self.dtype if fits_single(self.norm_Q / self.norm_Q[-2]) else torch.float64

    def about(self, shift_D: Tensor, shift_y: float, norm_Q: Tensor) -> "LeastSquares":
        """The same rows about another shift."""
        return replace(self, shift_D=shift_D, shift_y=shift_y, norm_Q=norm_Q)

    def fully_seen(self) -> "LeastSquares":
        """With the ends of the columns, from a pass unless they are there."""
        return self if self.seen else replace(self, seen=ends(self.comm, self.blocks))

    def moments(self, dtype: torch.dtype) -> Tensor:
        """Sums of the products of every two columns, float64 (Q, Q), in one pass; those of a block are summed in `dtype`."""
        return sum_blocks(self.comm, self.blocks, self._products(dtype), [self._bound_QQ])[0]

    def moments_within(self, dtype: torch.dtype) -> Tensor | None:
        """The same where `norm_Q` is guessed. None if it is too short for a block, or far too long for all."""
        found = sum_blocks_within(
            self.comm, self.blocks, self._products(dtype), [self._bound_QQ / self.blocks.num_blocks]
        )
        is_fine = found is not None and bool((self.norm_Q**2 <= LOOSE * found[0].diagonal()).all())
        return found[0] if is_fine else None

    @property
    def _bound_QQ(self) -> Tensor:
        return torch.outer(self.norm_Q, self.norm_Q) * ROUNDED

    def _products(self, dtype: torch.dtype) -> Callable[[Block], list[Tensor]]:
        constant_C = torch.nonzero(self.is_constant_D).flatten().to(self.comm.device)
        Q = len(self.norm_Q)
        return lambda block: [gram(self._columns(block, dtype, constant_C))[:Q, :Q].to(torch.float64)]

    def residuals(self, point_P: Tensor) -> tuple[Tensor, float]:
        """Half the negative gradient of the sum of squares (P,), and that sum, in float64."""
        coef_D, offset, slope = point_P[:-1].to(self.comm.device), float(point_P[-1]), self._slope()

        def partial(block: Block) -> list[Tensor]:
            X_ND = self._centred(block)
            residual_N = block.y_N.to(torch.float64) - self.shift_y - (scores(X_ND, coef_D) + offset)
            weighted_N = residual_N * self._costs(block)
            return [slope(weighted_N, X_ND), (weighted_N @ residual_N).reshape(1)]

        norm_P, norm_y = self.norm_Q[:-1], self.norm_Q[-1:]
        radius = norm_y + (norm_P * point_P.abs()).sum()
        slope_P, square = sum_blocks(self.comm, self.blocks, partial, [norm_P * radius, radius**2])
        return slope_P, float(square)

    def multiply(self, vector_P: Tensor) -> Tensor:
        """The matrix of the normal equations, without the penalty, times a vector (P,), in one pass."""
        coef_D, offset, slope = vector_P[:-1].to(self.comm.device), float(vector_P[-1]), self._slope()

        def partial(block: Block) -> list[Tensor]:
            X_ND = self._centred(block)
            return [slope((scores(X_ND, coef_D) + offset) * self._costs(block), X_ND)]

        norm_P = self.norm_Q[:-1]
        return sum_blocks(self.comm, self.blocks, partial, [norm_P * (norm_P * vector_P.abs()).sum()])[0]

    def squares(self) -> Tensor:
        """The sums of squares of the columns sqrt(c) * (x - shift, 1, y - shift_y), float64 (Q,), in one pass."""

        def partial(block: Block) -> list[Tensor]:
            X_ND, cost_N = block.X_ND.to(torch.float64), self._costs(block)
            square_D = squares_about(self.shift_D.to(block.device), cost_N, X_ND)
            target_N = block.y_N.to(torch.float64) - self.shift_y
            rest_2 = torch.stack([cost_N.sum(), cost_N @ target_N.square()])
            return [torch.cat([square_D, rest_2])]

        rounded_D = self.blocks.num_rows * self.peak_D**2 * CANCELLED_SQUARE
        bound_Q = self.norm_Q**2 + torch.cat([rounded_D, torch.zeros(2, dtype=torch.float64)])
        (square_Q,) = sum_blocks(self.comm, self.blocks, partial, [bound_Q])
        square_Q[:-2][self.is_constant_D] = 0
        return square_Q

    def intercept(self, point_P: Tensor) -> float:
        return self.shift_y + float(point_P[-1] - (self.shift_D * point_P[:-1]).sum()) if self.fit_intercept else 0.0

    def _slope(self) -> Callable[[Tensor, Tensor | Shifted], Tensor]:
        """What sums weighted rows (P,), with 0 for the columns that are constant: nothing can be learned of their coefficients."""
        varying_D = (~self.is_constant_D).to(self.comm.device, torch.float64)

        def of(weighted_N: Tensor, X_ND: Tensor | Shifted) -> Tensor:
            return torch.cat([product(weighted_N[None], X_ND)[0] * varying_D, weighted_N.sum().reshape(1)])

        return of

    def _columns(self, block: Block, dtype: torch.dtype, constant_C: Tensor) -> Tensor:
        """sqrt(c) * (x - shift, 1, y - shift_y), and columns of 0; 0 as well in the columns at some places."""
        D = len(self.shift_D)
        columns_NQ = columns_about(block.X_ND, self.shift_D, dtype, more=1)
        columns_NQ[:, D + 1] = block.y_N.to(torch.float64) - self.shift_y
        if len(constant_C):
            columns_NQ[:, constant_C] = 0
        if block.weight_N is not None:
            columns_NQ *= self._costs(block).sqrt().to(dtype)[:, None]
        return columns_NQ

    def _centred(self, block: Block) -> Tensor | Shifted:
        """x - shift, float64."""
        if isinstance(block.X_ND, SparseRows):
            return Shifted(block.X_ND, self.shift_D)
        if self.is_shifted:
            return block.X_ND.to(torch.float64, copy=True).sub_(self.shift_D.to(block.device))
        return block.X_ND.to(torch.float64)

    def _costs(self, block: Block) -> Tensor:
        return row_weights(block) / self.scale


def open_rows(comm: Comm, blocks: Blocks, *, fit_intercept: bool) -> LeastSquares:
    """Two passes: the ends of the columns, and the means of a sample. InvalidData if something is not finite, or there is no row."""
    seen, target = ends(comm, blocks), _target(comm, blocks)
    shift_D, shift_y = torch.zeros_like(seen.high_D), 0.0
    if fit_intercept:
        shift_D = sample_means(comm, blocks, (seen.high_D, seen.low_D), as_they_are)
        shift_D, shift_y = shift_D.to(seen.dtype).to(torch.float64), target.mean
    reach_D = torch.maximum(seen.high_D - shift_D, shift_D - seen.low_D)
    if is_wide(blocks.num_features):
        reach_D += CANCELLED * seen.peak_D  # sparse rows are summed about 0
    reach_2 = torch.tensor([1.0, target.reach(shift_y)], dtype=torch.float64)
    return LeastSquares(
        comm=comm,
        blocks=blocks,
        dtype=seen.dtype,
        scale=target.scale,
        seen=seen,
        shift_D=shift_D,
        shift_y=shift_y,
        norm_Q=torch.cat([reach_D, reach_2]) * (blocks.num_rows**0.5 * SLACK),
        fit_intercept=fit_intercept,
    )


def sampled_rows(comm: Comm, blocks: Blocks, *, fit_intercept: bool) -> LeastSquares | None:
    """Bounds are guessed from a sample of the rows, so that no pass over all is needed. None if it cannot tell enough."""
    target = _target(comm, blocks)
    sample = sample_of(comm, blocks)
    if sample is None or target.weight > LARGEST:
        return None
    # Columns that lie around 0 stay as they are, which saves a look at all values in each pass.
    shift_D = sample.mean_D if fit_intercept and not sample.is_near else torch.zeros_like(sample.mean_D)
    shift_y = target.mean if fit_intercept else 0.0
    reach_D = sample.reach(shift_D)
    largest_D = shift_D.abs() + reach_D
    if bool((reach_D <= 4 * rounding(largest_D)).any()) or not fits_single(reach_D):
        return None
    length_2 = torch.tensor([1.0, target.reach(shift_y)], dtype=torch.float64) * sample.rows**0.5
    return LeastSquares(
        comm=comm,
        blocks=blocks,
        dtype=sample.dtype,
        scale=target.scale,
        seen=None,
        shift_D=shift_D,
        shift_y=shift_y,
        norm_Q=torch.cat([sample.lengths(shift_D), length_2]) * blocks.num_blocks**0.5,
        fit_intercept=fit_intercept,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """What is known of labels and weights, for which no features are read."""

    high: float
    low: float
    mean: float  # of a sample
    weight: float  # the largest
    is_weighted: bool

    @property
    def scale(self) -> float:
        return self.weight if self.is_weighted else 1.0

    def reach(self, shift: float) -> float:
        return max(self.high - shift, shift - self.low)


def _target(comm: Comm, blocks: Blocks) -> _Target:
    """InvalidData if a label is not finite, or no row has a weight."""

    def of_block(block: Block) -> Tensor:
        found_4 = torch.tensor([-torch.inf, -torch.inf, 0, block.weight_N is not None], dtype=torch.float64)
        if len(block):
            low, high = torch.aminmax(block.y_N.to(torch.float64))  # both NaN if a label is
            found_4[:2] = torch.stack([high, -low]).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)
        found_4[2:3] = largest_weight(block)
        return found_4.to(block.device)

    start = torch.tensor([-torch.inf, -torch.inf, 0, 0], dtype=torch.float64)
    high, negative_low, weight, is_weighted = max_over_blocks(comm, blocks.featureless, of_block, start).tolist()
    if torch.inf in (high, negative_low):
        raise InvalidData("the label has NaN or infinite values")
    if weight == 0:
        raise InvalidData("there is nothing to learn from: no row has a weight above 0")
    high_1, low_1 = torch.tensor([[high], [-negative_low]], dtype=torch.float64)
    mean_1 = sample_means(comm, blocks.featureless, (high_1, low_1), lambda block: block.y_N[:, None])
    return _Target(high=high, low=-negative_low, mean=float(mean_1), weight=weight, is_weighted=bool(is_weighted))
