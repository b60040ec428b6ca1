"""Normal equations of least squares: summed in one pass, solved on rank 0.

    | G   g | |w|   |r|        G = X'CX, g = X'C1, W = 1'C1 about the shift
    | g'  W | |b| = |s|

The intercept is eliminated first: (G - gg'/W + l2 I) w = r - g s/W.

Legend: D features, P = D + 1 (x - shift, 1), Q = D + 2 (and y - shift_y).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Linear
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import State
from scaletrain.estimators.ends import rounding
from scaletrain.estimators.linalg import Solver, factor

from .least_squares import LOOSE, LeastSquares, open_rows, sampled_rows

LOSE_DIGITS = 0.01  # condition * epsilon of the dtype of the sums
FAR = 100.0  # variances that a mean may lie away from the shift, before digits are lost
ROUNDING = 1e-3  # of sums in float32, in bounds


@dataclass(frozen=True, slots=True, kw_only=True)
class NormalEquations:
    """Equal on all ranks; `solver` on rank 0 only."""

    rows: LeastSquares
    moment_QQ: Tensor
    l2: float
    solver: Solver | None

    @classmethod
    def opened(cls, comm: Comm, blocks: Blocks, params: Linear, saved: State | None) -> "NormalEquations":
        """Summed, or as they were saved. InvalidData if something is not finite, or no row has a weight."""
        l2 = params.l2 or 0.0
        if saved:
            return cls._restored(comm, blocks, params, saved)
        rows, moment_QQ = _first_moments(comm, blocks, fit_intercept=params.fit_intercept)
        fast = cls._of(rows, moment_QQ, l2)
        if not fast._is_rough(rows):
            return fast
        careful = fast._about_means()
        return cls._of(careful, careful.moments(torch.float64), l2)

    @classmethod
    def _restored(cls, comm: Comm, blocks: Blocks, params: Linear, saved: State) -> "NormalEquations":
        open_again = sampled_rows if saved["sampled"] else open_rows
        rows = open_again(comm, blocks, fit_intercept=params.fit_intercept)
        assert rows is not None  # it could tell enough before
        shift_C = saved["shift"]
        rows = rows.about(shift_C[:-1], float(shift_C[-1]), saved["norm"])
        return cls._of(rows, saved["moments"], params.l2 or 0.0)

    @classmethod
    def _of(cls, rows: LeastSquares, moment_QQ: Tensor, l2: float) -> "NormalEquations":
        norm_Q = moment_QQ.diagonal().clamp(min=0).sqrt() * (1 + ROUNDING)
        if rows.seen:
            norm_Q = torch.minimum(rows.norm_Q, norm_Q)
        close = rows.about(rows.shift_D, rows.shift_y, norm_Q)
        equations = cls(rows=close, moment_QQ=moment_QQ, l2=l2 / rows.scale, solver=None)
        return equations if rows.comm.rank else replace(equations, solver=factor(equations.reduced()))

    def state(self) -> State:
        shift_y = torch.tensor([self.rows.shift_y], dtype=torch.float64)
        return {
            "moments": self.moment_QQ,
            "shift": torch.cat([self.rows.shift_D, shift_y]),
            "norm": self.rows.norm_Q,
            "sampled": torch.tensor([self.rows.seen is None]),
        }

    @property
    def moment_P(self) -> Tensor:
        """The right side for the targets."""
        return self.moment_QQ[:-1, -1]

    def solve(self, right_P: Tensor) -> Tensor:
        """Rank 0's solution, on all ranks."""
        return self.rows.comm.broadcast(self._solution(right_P) if self.solver else torch.empty_like(right_P))

    def facts(self) -> tuple[int, float]:
        """Rank and condition of the columns."""
        found = [self.solver.rank, self.solver.condition] if self.solver else [0.0, 0.0]
        rank, condition = self.rows.comm.broadcast(torch.tensor(found, dtype=torch.float64)).tolist()
        return int(rank), condition

    def multiplied(self, point_P: Tensor) -> Tensor:
        """The left side without l2."""
        return self.moment_QQ[:-1, :-1] @ point_P

    def reduced_right(self, right_P: Tensor) -> Tensor:
        """r - g s/W, or r without an intercept."""
        if not self.rows.fit_intercept:
            return right_P[:-1]
        lean_D, weight = self.moment_QQ[:-2, -2], self.moment_QQ[-2, -2]
        return (right_P[:-1] - lean_D * (right_P[-1] / weight)) * ~self._is_constant_D

    def with_intercept(self, coef_D: Tensor, right_P: Tensor) -> Tensor:
        """The point with these coefficients: (w, (s - g'w)/W)."""
        if not self.rows.fit_intercept:
            return torch.cat([coef_D, torch.zeros(1, dtype=torch.float64)])
        offset = (right_P[-1] - self.moment_QQ[:-2, -2] @ coef_D) / self.moment_QQ[-2, -2]
        return torch.cat([coef_D, offset.reshape(1)])

    def _solution(self, right_P: Tensor) -> Tensor:
        assert self.solver is not None
        return self.with_intercept(self.solver.solve(self.reduced_right(right_P)), right_P)

    @property
    def _square_D(self) -> Tensor:
        """Sums of squares about the means, or about 0 without an intercept."""
        square_D, lean_D = self.moment_QQ.diagonal()[:-2], self.moment_QQ[:-2, -2]
        return square_D - lean_D**2 / self.moment_QQ[-2, -2] if self.rows.fit_intercept else square_D

    @property
    def _is_constant_D(self) -> Tensor:
        """Columns whose deviations from the mean, over the rows with a weight, are rounding only."""
        tiny_D = self.moment_QQ[-2, -2] * rounding(self.rows.peak_D) ** 2
        return (self._square_D <= tiny_D) & self.rows.fit_intercept

    def reduced(self) -> Tensor:
        """G - gg'/W + l2 I, or G + l2 I without an intercept."""
        gram_DD = self.moment_QQ[:-2, :-2].clone()
        if self.rows.fit_intercept:
            lean_D = self.moment_QQ[:-2, -2]
            gram_DD -= torch.outer(lean_D, lean_D / self.moment_QQ[-2, -2])
            gram_DD[self._is_constant_D] = 0
            gram_DD[:, self._is_constant_D] = 0
        gram_DD.diagonal().add_(self.l2)
        return gram_DD

    def _is_rough(self, rows: LeastSquares) -> bool:
        """Whether the sums over `rows` have lost digits that can be had, by rank 0's word."""
        word = torch.zeros(1, dtype=torch.float64)
        if self.solver:
            lost = self.solver.condition * torch.finfo(rows.fast_dtype).eps > LOSE_DIGITS
            doubtful = rows.fast_dtype is not torch.float64 and (lost or self.solver.rank < len(self._square_D))
            square_D = self.moment_QQ.diagonal()[:-2]
            is_far_D = (square_D > FAR * self._square_D) | (rows.norm_Q[:-2] ** 2 > LOOSE * square_D)
            word[0] = doubtful or bool((is_far_D & ~rows.is_constant_D).any())
        return bool(self.rows.comm.broadcast(word)[0])

    def _about_means(self) -> LeastSquares:
        """The rows about their means; these need not be exact, the bounds have to hold."""
        rows, weight = self.rows.fully_seen(), self.moment_QQ[-2, -2]
        square_Q, lean_Q = self.moment_QQ.diagonal().clamp(min=0), self.moment_QQ[-2]
        if not rows.fit_intercept:
            return rows
        mean_C = torch.cat([rows.shift_D + lean_Q[:-2] / weight, rows.shift_y + lean_Q[-1:] / weight])
        shift_D = mean_C[:-1].to(rows.dtype).to(torch.float64)
        left_Q = (square_Q - lean_Q**2 / weight).clamp(min=0) + ROUNDING * square_Q
        left_Q[:-2] += weight * (shift_D - mean_C[:-1]) ** 2
        left_Q[-2] = square_Q[-2]
        return rows.about(shift_D, float(mean_C[-1]), left_Q.sqrt() * (1 + ROUNDING))


def _first_moments(comm: Comm, blocks: Blocks, *, fit_intercept: bool) -> tuple[LeastSquares, Tensor]:
    """In the dtype of the features if they can be told in it; with guessed bounds, unless that fails."""
    rows = sampled_rows(comm, blocks, fit_intercept=fit_intercept)
    moment_QQ = rows.moments_within(rows.dtype) if rows else None
    if rows is None or moment_QQ is None:
        rows = open_rows(comm, blocks, fit_intercept=fit_intercept)
        moment_QQ = rows.moments(rows.fast_dtype)
    return rows, moment_QQ
