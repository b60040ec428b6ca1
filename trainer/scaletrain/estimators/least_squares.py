"""The rows of a least-squares problem about a shift, and the exact sums over them.

    minimise  sum_i c_i (y_i - x_i w - a)^2 + l2 |w|^2

Inside, features and target are taken about a shift near their means (those of a sample of the rows), and a point is (w, b) with
x_i w + a = (x_i - shift) w + b + shift_y. Without an intercept the shifts are 0 and b is not used.

Legend: N rows of a block, D features, P = D + 1 (x - shift, 1), Q = D + 2 (x - shift, 1, y - shift_y).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.data.sparse import Shifted, SparseRows
from scaletrain.errors import InvalidData
from scaletrain.exact import max_over_blocks, sum_blocks

from .ends import Ends, ends
from .linalg import gram, product, scores, squares_about
from .moments import CANCELLED_SQUARE, ROUNDED, SLACK, fits_single, row_weights
from .sample import column_sums, sample_means


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastSquares:
    """Equal on all ranks but for the blocks. Costs are the weights divided by the largest one."""

    comm: Comm
    blocks: Blocks
    seen: Ends
    shift_D: Tensor  # float64, exact in the dtype of the features
    shift_y: float
    norm_Q: Tensor  # bounds on the lengths of the columns sqrt(c) * (x - shift, 1, y - shift_y)
    fit_intercept: bool

    @property
    def free(self) -> int:
        """Coordinates of a point that may change."""
        return len(self.shift_D) + self.fit_intercept

    @property
    def scale(self) -> float:
        """The largest weight: what costs are multiplied with."""
        return self.seen.weight if self.seen.is_weighted else 1.0

    @property
    def is_constant_D(self) -> Tensor:
        """Columns whose deviations from their middles are rounding only. They are learned by the intercept."""
        reach_D = self.seen.high_D - self.seen.low_D
        tiny_D = 8 * torch.finfo(torch.float64).eps * self.seen.peak_D
        return (reach_D <= tiny_D) & self.fit_intercept

    @property
    def fast_dtype(self) -> torch.dtype:
        """Of a first look at the moments: float32 if the features are, and products of all columns can be told in it."""
        return self.seen.dtype if fits_single(self.norm_Q / self.norm_Q[-2]) else torch.float64

    def about(self, shift_D: Tensor, shift_y: float, norm_Q: Tensor) -> "LeastSquares":
        """The same rows about another shift."""
        return replace(self, shift_D=shift_D, shift_y=shift_y, norm_Q=norm_Q)

    def moments(self, dtype: torch.dtype) -> Tensor:
        """Sums of the products of every two columns, float64 (Q, Q), in one pass; those of a block are summed in `dtype`."""

        def partial(block: Block) -> list[Tensor]:
            return [gram(self._columns(block, dtype)).to(torch.float64)]

        return sum_blocks(self.comm, self.blocks, partial, [torch.outer(self.norm_Q, self.norm_Q) * ROUNDED])[0]

    def residuals(self, point_P: Tensor) -> tuple[Tensor, float]:
        """Half the negative gradient of the sum of squares (P,), and that sum, in float64."""
        coef_D, offset = point_P[:-1].to(self.comm.device), float(point_P[-1])

        def partial(block: Block) -> list[Tensor]:
            X_ND = self._centred(block)
            residual_N = block.y_N.to(torch.float64) - self.shift_y - (scores(X_ND, coef_D) + offset)
            weighted_N = residual_N * self._costs(block)
            return [self._slope(weighted_N, X_ND), (weighted_N @ residual_N).reshape(1)]

        norm_P, norm_y = self.norm_Q[:-1], self.norm_Q[-1:]
        radius = norm_y + (norm_P * point_P.abs()).sum()
        slope_P, square = sum_blocks(self.comm, self.blocks, partial, [norm_P * radius, radius**2])
        return slope_P, float(square)

    def multiply(self, vector_P: Tensor) -> Tensor:
        """The matrix of the normal equations, without the penalty, times a vector (P,), in one pass."""
        coef_D, offset = vector_P[:-1].to(self.comm.device), float(vector_P[-1])

        def partial(block: Block) -> list[Tensor]:
            X_ND = self._centred(block)
            return [self._slope((scores(X_ND, coef_D) + offset) * self._costs(block), X_ND)]

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

        rounded_D = self.blocks.num_rows * self.seen.peak_D**2 * CANCELLED_SQUARE
        bound_Q = self.norm_Q**2 + torch.cat([rounded_D, torch.zeros(2, dtype=torch.float64)])
        (square_Q,) = sum_blocks(self.comm, self.blocks, partial, [bound_Q])
        square_Q[:-2][self.is_constant_D] = 0
        return square_Q

    def intercept(self, point_P: Tensor) -> float:
        return self.shift_y + float(point_P[-1] - (self.shift_D * point_P[:-1]).sum()) if self.fit_intercept else 0.0

    def _slope(self, weighted_N: Tensor, X_ND: Tensor) -> Tensor:
        return torch.cat([product(weighted_N[None], X_ND)[0], weighted_N.sum().reshape(1)])

    def _columns(self, block: Block, dtype: torch.dtype) -> Tensor:
        """sqrt(c) * (x - shift, 1, y - shift_y), shape (N, Q)."""
        D = len(self.shift_D)
        columns_NQ = torch.empty(len(block), D + 2, dtype=dtype, device=block.device)
        torch.sub(block.X_ND, self.shift_D.to(block.device, dtype), out=columns_NQ[:, :D])
        columns_NQ[:, D] = 1
        columns_NQ[:, D + 1] = block.y_N.to(torch.float64) - self.shift_y
        self._clear_constant(columns_NQ)
        if block.weight_N is not None:
            columns_NQ *= self._costs(block).sqrt().to(dtype)[:, None]
        return columns_NQ

    def _centred(self, block: Block) -> Tensor | Shifted:
        """x - shift, float64."""
        if isinstance(block.X_ND, SparseRows):
            return Shifted(block.X_ND, self.shift_D)
        X_ND = block.X_ND.to(torch.float64, copy=True).sub_(self.shift_D.to(block.device))
        self._clear_constant(X_ND)
        return X_ND

    def _clear_constant(self, X_ND: Tensor) -> None:
        is_constant_D = self.is_constant_D
        if bool(is_constant_D.any()):
            X_ND[:, torch.nonzero(is_constant_D).flatten().to(X_ND.device)] = 0

    def _costs(self, block: Block) -> Tensor:
        return row_weights(block) / self.scale


def open_rows(comm: Comm, blocks: Blocks, *, fit_intercept: bool) -> LeastSquares:
    """Two passes: the ends of the columns, and the means of a sample. InvalidData if something is not finite, or there is no row."""
    seen = ends(comm, blocks)
    high_y, low_y = _target_ends(comm, blocks)
    if seen.weight == 0:
        raise InvalidData("there is nothing to learn from: no row has a weight above 0")
    high_C, low_C = torch.cat([seen.high_D, high_y]), torch.cat([seen.low_D, low_y])
    shift_C = torch.zeros_like(high_C)
    if fit_intercept:
        shift_C = sample_means(comm, blocks, (high_C, low_C), _sums)
    shift_D, shift_y = shift_C[:-1].to(seen.dtype).to(torch.float64), shift_C[-1:]
    reach_D = torch.maximum(seen.high_D - shift_D, shift_D - seen.low_D)
    reach_y = torch.maximum(high_y - shift_y, shift_y - low_y)
    norm_Q = torch.cat([reach_D, torch.ones(1, dtype=torch.float64), reach_y]) * (blocks.num_rows**0.5 * SLACK)
    return LeastSquares(
        comm=comm,
        blocks=blocks,
        seen=seen,
        shift_D=shift_D,
        shift_y=float(shift_y),
        norm_Q=norm_Q,
        fit_intercept=fit_intercept,
    )


def _target_ends(comm: Comm, blocks: Blocks) -> tuple[Tensor, Tensor]:
    """The largest and the least target, shape (1,). InvalidData if one is not finite."""

    def of_block(block: Block) -> Tensor:
        if not len(block):
            return torch.full((2,), -torch.inf, dtype=torch.float64, device=block.device)
        least, largest = torch.aminmax(block.y_N.to(torch.float64))
        return torch.stack([largest, -least]).nan_to_num(nan=torch.inf, posinf=torch.inf, neginf=-torch.inf)

    found = max_over_blocks(comm, blocks, of_block, torch.full((2,), -torch.inf, dtype=torch.float64))
    if bool((found == torch.inf).any()):
        raise InvalidData("the label has NaN or infinite values")
    return (found[:1], -found[1:]) if blocks.num_rows else (torch.zeros(1), torch.zeros(1))


def _sums(block: Block) -> Tensor:
    """Of the columns of features and the target, float64."""
    return torch.cat([column_sums(block.X_ND), block.y_N.to(torch.float64).sum().reshape(1)])
