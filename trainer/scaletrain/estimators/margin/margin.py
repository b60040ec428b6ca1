"""A linear two-class problem over all blocks: its value, gradient and Hessian as exact sums.

    f(w, b) = l2/2 |w|^2 + intercept_l2/2 b^2 + sum_i c_i loss(y_i (x_i w + b)),   y_i = +1 for one class, -1 for the others

Inside, features are taken about a shift close to their means: x_i w + b = (x_i - shift) w + offset. That keeps the Hessian
well conditioned, so that it can be summed in the dtype of the features. So can value and gradient far from the minimum; where a fit
ends they are float64.
A point is a float64 tensor (w, offset) of D + 1 numbers; without an intercept, shift and offset are 0.

Cost of a pass: 4 D flops a row, and D^2 more with a Hessian for one that curves f. All-reduced: P + 1 numbers, and P^2.

Legend: N rows of a block, D features, P = D + 1, T step sizes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.estimators.limits import is_wide
from scaletrain.estimators.linalg import columns_about, gram, product, scores, squares_about
from scaletrain.estimators.moments import CANCELLED_SQUARE, ROUNDED, Moments, fits_single

from .armijo import STEPS_T
from .evaluation import Evaluation, First, Hessian
from .losses import MarginLoss
from .sums import RowSums

NEAR = 2.0  # shift by spread: of columns this close to 0, sums in float32 about 0 lose a digit at most
SMALL = 1e3  # decision values of which float32 keeps four decimals, rounding of the coefficients included


@dataclass(frozen=True, slots=True, kw_only=True)
class MarginProblem:
    """The rows, their costs and the penalty. With guessed moments (`guessed_moments`) each sum may raise Misled."""

    comm: Comm
    blocks: Blocks
    x: Moments  # without weights
    positive: int  # the class with y = +1
    cost_positive: float  # multiplies the weights of its rows
    cost_negative: float
    max_cost: float  # bound on any c_i
    l2: float
    intercept_l2: float
    fit_intercept: bool
    avoids_matrix: bool = False  # the Hessian as a matrix would be a waste
    has_first_gradient: bool = True  # whether the gradient at 0 is asked for
    shift_D: Tensor = field(init=False)  # exact in the dtype of the features
    norm_P: Tensor = field(init=False)  # bounds on the lengths of the columns of (x - shift, 1)
    varying_P: Tensor = field(init=False)  # see `Moments.varying`
    _first: list[First] = field(init=False, default_factory=list, compare=False)  # once it is known

    def __post_init__(self) -> None:
        shift_D = self.x.mean_D if self.fit_intercept else torch.zeros_like(self.x.mean_D)
        shift_D = shift_D.to(self.x.dtype).to(torch.float64)
        object.__setattr__(self, "shift_D", shift_D)
        object.__setattr__(self, "norm_P", self.x.lengths(shift_D))
        object.__setattr__(self, "varying_P", self.x.varying(shift_D))

    @property
    def free(self) -> int:
        """Coordinates of a point that may change."""
        return len(self.x.mean_D) + self.fit_intercept

    @property
    def is_wide(self) -> bool:
        """Whether there is no Hessian as a matrix."""
        return self.avoids_matrix or is_wide(len(self.x.mean_D))

    @property
    def first_hessian(self) -> Hessian:
        """How to sum the Hessian as long as nothing speaks against it."""
        if self.is_wide:
            return Hessian.DIAGONAL
        reach_P = self.norm_P / self.norm_P[-1] * self.max_cost**0.5 * self.varying_P
        return Hessian.FAST if fits_single(reach_P) else Hessian.PRECISE

    def penalty_slope(self, points: Tensor) -> Tensor:
        """The matrix of the penalty times points (..., P): l2 for coefficients, intercept_l2 for b = offset - shift w."""
        b_P = torch.cat([-self.shift_D, torch.ones(1, dtype=torch.float64)])
        slope = self.intercept_l2 * (points @ b_P)[..., None] * b_P
        slope[..., :-1] += self.l2 * points[..., :-1]
        return slope

    def with_penalty(self, summed: Tensor) -> Tensor:
        """The Hessian (P, P), or its diagonal (P,), from what was summed over the rows."""
        b_P = torch.cat([-self.shift_D, torch.ones(1, dtype=torch.float64)])
        l2_P = torch.cat([torch.full_like(self.shift_D, self.l2), torch.zeros(1, dtype=torch.float64)])
        if summed.ndim == 1:
            return summed * self.varying_P + l2_P + self.intercept_l2 * b_P**2
        masked_PP = summed * torch.outer(self.varying_P, self.varying_P)
        return masked_PP + torch.diag(l2_P) + self.intercept_l2 * torch.outer(b_P, b_P)

    def point(self, coef_D: Tensor, intercept: float) -> Tensor:
        offset = intercept + (self.shift_D * coef_D).sum() * self.fit_intercept
        return torch.cat([coef_D, offset.reshape(1)])

    def intercept(self, points: Tensor) -> Tensor:
        """b of points (..., P)."""
        return points[..., -1] - points[..., :-1] @ self.shift_D

    def original_gradient(self, gradient_P: Tensor) -> Tensor:
        """The gradient by (w, b) from that by (w, offset)."""
        return torch.cat([gradient_P[:-1] + self.shift_D * gradient_P[-1], gradient_P[-1:]])

    def evaluate(
        self, point_P: Tensor, loss: MarginLoss, hessian: Hessian, *, may_be_rough: bool = False
    ) -> Evaluation:
        """One pass over the blocks, one collective; two where the first shows that the bounds were too far. The first one says
        what f is at 0 too."""
        is_rough = may_be_rough and self._is_rough_enough(point_P)
        dtype = torch.float32 if is_rough else torch.float64
        bounds = self._bounds([self._radius(point_P)] + [0.0] * (not self._first), loss, hessian)
        values_K, gradients_KP, *hessians = self._sums(self._partial(point_P, loss, hessian, dtype), bounds)
        if not self._first:
            gradient_P = gradients_KP[1] if self.has_first_gradient else None
            self._first.append(First(value=float(values_K[1]), gradient_P=gradient_P))
        penalty_P = self.penalty_slope(point_P)
        penalty = float(point_P @ penalty_P) / 2
        closer_1 = self._sums.closer(values_K[:1], bounds[0][:1], beside=penalty)
        if closer_1 is not None:
            force = (self.max_cost * loss.steepness * float(closer_1)) ** 0.5
            closer = [closer_1, torch.minimum(force * self.norm_P, bounds[1][0])[None], *bounds[2:]]
            values_K, gradients_KP, *hessians = self._sums(self._partial(point_P, loss, hessian, dtype), closer)
        return Evaluation(
            value=float(values_K[0]) + penalty,
            gradient_P=gradients_KP[0] + penalty_P,
            hessian=self.with_penalty(hessians[0]) if hessians else None,
            first=self._first[0],
            is_rough=is_rough,
        )

    def _partial(
        self, point_P: Tensor, loss: MarginLoss, hessian: Hessian, dtype: torch.dtype
    ) -> Callable[[Block], list[Tensor]]:
        """What `evaluate` sums over a block, with features in `dtype`: values, gradients and Hessian of the loss."""
        zero, is_first = torch.zeros(1, dtype=torch.float64), not self._first
        first_slope, first_value = float(loss.slope(zero)), float(loss.value(zero))
        decision, varying_P = self._decider(point_P, dtype), self.varying_P.to(self.comm.device)

        def partial(block: Block) -> list[Tensor]:
            X_ND = block.X_ND.to(dtype)
            sign_N, cost_N = self.labels(block)
            m_N, force_N = decision(X_ND).mul_(sign_N), cost_N * sign_N
            values = [cost_N @ loss.value(m_N)]
            gradients = [self.sums_about(loss.slope(m_N).mul_(force_N)[None], X_ND)]
            if is_first:
                values.append(first_value * cost_N.sum())
            if is_first and self.has_first_gradient:
                gradients.append(self.sums_about(first_slope * force_N[None], X_ND.to(torch.float64)))
            sums = [torch.stack(values), torch.cat(gradients).mul_(varying_P)]
            if hessian is Hessian.NONE:
                return sums
            curvature_N = cost_N * loss.curvature(m_N)
            if hessian is Hessian.DIAGONAL:
                return [*sums, self._diagonal(X_ND, curvature_N)]
            summed = torch.float64 if hessian is Hessian.PRECISE else self.x.dtype
            return [*sums, self.weighted_gram(block, curvature_N.to(summed))]

        return partial

    def _is_rough_enough(self, point_P: Tensor) -> bool:
        """Whether float32 tells where the minimum is, from far."""
        if self.x.dtype is not torch.float32 or self.first_hessian is not Hessian.FAST:
            return False
        spread_D = self.norm_P[:-1] / self.norm_P[-1]
        is_near = bool((self.shift_D.abs() * self.varying_P[:-1] <= NEAR * spread_D).all())
        is_small = self._radius(point_P) <= SMALL * float(self.norm_P[-1])
        return is_near and is_small and fits_single(torch.tensor([self.max_cost]))

    def multiply(self, point_P: Tensor, vector_P: Tensor, loss: MarginLoss) -> Tensor:
        """The Hessian at a point times a vector, float64 (P,), in one pass and one collective of P numbers."""
        decision, along = self._decider(point_P), self._decider(vector_P)

        def partial(block: Block) -> list[Tensor]:
            X_ND = block.X_ND.to(torch.float64)
            sign_N, cost_N = self.labels(block)
            curvature_N = cost_N * loss.curvature(sign_N * decision(X_ND))
            return [self.sums_about((curvature_N * along(X_ND))[None], X_ND)[0]]

        norm_P = self.norm_P
        bound_P = self.max_cost * loss.max_curvature * norm_P * (norm_P * vector_P.abs()).sum()
        (product_P,) = self._sums(partial, [bound_P])
        return product_P * self.varying_P + self.penalty_slope(vector_P)

    def search(self, point_P: Tensor, direction_P: Tensor, loss: MarginLoss) -> Tensor:
        """f at point + t * direction for the steps t = 1/2, 1/4, ... (STEPS_T), in one pass and one collective."""
        there_T = STEPS_T.to(self.comm.device)
        decision, along = self._decider(point_P), self._decider(direction_P)

        def partial(block: Block) -> list[Tensor]:
            X_ND = block.X_ND.to(torch.float64)
            sign_N, cost_N = self.labels(block)
            z_N, change_N = decision(X_ND), along(X_ND)
            m_NT = sign_N[:, None] * (z_N[:, None] + change_N[:, None] * there_T)
            return [cost_N @ loss.value(m_NT)]

        radius = self._radius(point_P.abs() + direction_P.abs())
        bound = self.max_cost * loss.growth(self._num_rows, radius)
        bound_T = torch.full_like(STEPS_T, bound * ROUNDED)
        (values_T,) = self._sums(partial, [bound_T])
        points_TP = point_P + STEPS_T[:, None] * direction_P
        penalty_T = (self.penalty_slope(points_TP) * points_TP).sum(1) / 2
        closer_T = self._sums.closer(values_T, bound_T, beside=penalty_T)
        if closer_T is not None:
            (values_T,) = self._sums(partial, [closer_T])
        return values_T + penalty_T

    @property
    def _sums(self) -> RowSums:
        return RowSums(comm=self.comm, blocks=self.blocks, are_guessed=self.x.are_of_a_block)

    @property
    def _num_rows(self) -> int:
        """That bounds are for: of all blocks, or of one."""
        return int(self.x.weight)

    def _decider(self, point_P: Tensor, dtype: torch.dtype = torch.float64) -> Callable[[Tensor], Tensor]:
        """What computes the decision values, float64, of rows in `dtype`."""
        coef_D, intercept = point_P[:-1].to(self.comm.device, dtype), float(self.intercept(point_P))
        return lambda X_ND: scores(X_ND, coef_D).to(torch.float64).add_(intercept)

    def _radius(self, point_P: Tensor) -> float:
        """Bounds the root of the sum of squares of the decision values."""
        return float((point_P.abs() * self.norm_P).sum())

    def labels(self, block: Block) -> tuple[Tensor, Tensor]:
        """y (-1.0 or +1.0) and c of the rows."""
        sign_N = (block.y_N == self.positive).to(torch.float64).mul_(2).sub_(1)
        cost_N = torch.full_like(sign_N, self.cost_negative)
        if self.cost_positive != self.cost_negative:
            cost_N.masked_fill_(sign_N > 0, self.cost_positive)
        return sign_N, cost_N if block.weight_N is None else cost_N.mul_(block.weight_N)

    def sums_about(self, A_KN: Tensor, X_ND: Tensor) -> Tensor:
        """A (x - shift, 1), float64 (K, P), of which A x is summed in the dtype of the rows."""
        sum_K1 = A_KN.sum(1, keepdim=True)
        sum_KD = product(A_KN.to(X_ND.dtype), X_ND).to(torch.float64)
        return torch.cat([sum_KD - sum_K1 * self.shift_D.to(A_KN.device), sum_K1], dim=1)

    def _diagonal(self, X_ND: Tensor, curvature_N: Tensor) -> Tensor:
        """sum of curvature * (x - shift, 1)^2."""
        square_D = squares_about(self.shift_D.to(curvature_N.device), curvature_N, X_ND)
        return torch.cat([square_D, curvature_N.sum()[None]])

    def weighted_gram(self, block: Block, curvature_N: Tensor) -> Tensor:
        """sum of curvature * (x - shift, 1)(x - shift, 1)', over the rows where it is not 0. Returns float64."""
        active_A = curvature_N.nonzero()[:, 0]
        root_A = curvature_N[active_A].sqrt()
        X_AD = block.X_ND if len(active_A) == len(block) else block.X_ND.index_select(0, active_A)
        D = len(self.shift_D)
        columns_AP = columns_about(X_AD, self.shift_D, root_A.dtype)
        return gram(columns_AP.mul_(root_A[:, None]))[: D + 1, : D + 1].to(torch.float64)

    def _bounds(self, radii: Sequence[float], loss: MarginLoss, hessian: Hessian) -> list[Tensor]:
        n, norm_P = self._num_rows, self.norm_P
        values_K = self.max_cost * torch.tensor([loss.growth(n, radius) for radius in radii], dtype=torch.float64)
        forces_K = torch.tensor([loss.slope_square(n, radius) ** 0.5 for radius in radii], dtype=torch.float64)
        forces_K = forces_K[: 1 + self.has_first_gradient]
        bounds = [values_K * ROUNDED, self.max_cost * torch.outer(forces_K, norm_P) * ROUNDED]
        if hessian is Hessian.NONE:
            return bounds
        if hessian is Hessian.DIAGONAL:
            return [*bounds, self.max_cost * loss.max_curvature * (norm_P**2 + self._rounded_P) * ROUNDED]
        return [*bounds, self.gram_bounds(loss.max_curvature)]

    def gram_bounds(self, max_curvature: float) -> Tensor:
        """Of the sums of `weighted_gram`, (P, P), for curvatures up to a cost times this."""
        return self.max_cost * max_curvature * torch.outer(self.norm_P, self.norm_P) * ROUNDED

    @property
    def _rounded_P(self) -> Tensor:
        """What squares about the shift may exceed their bounds by, because they are computed about 0."""
        peak_P = torch.cat([self.x.peak_D, torch.ones(1, dtype=torch.float64)])
        return self.x.weight * peak_P**2 * CANCELLED_SQUARE
