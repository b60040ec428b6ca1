"""Elastic net and lasso: normal equations summed once, coordinate descent on rank 0, checked on the data.

    minimise  sum_i c_i (y_i - x_i w - a)^2 + l2 |w|^2 + l1 sum_d |w_d|

Coordinate descent (Friedman, Hastie and Tibshirani 2010) sets one coefficient after the other to its best value:

    w_d = soft(r_d + A_dd w_d, l1 / 2) / A_dd,    A = X'CX + l2 I about the means,  r = X'Cy - A w

sweeping over those that are not 0 until they rest, then over all. The residuals at the result, computed from the data, give the
duality gap (as in scikit-learn's ElasticNet), and the right side of another descent if the sums had lost digits.

Cost: n d^2 flops for the sums, 2 d flops for each coefficient that moves, 4 n d for a check. All-reduced: (d + 2)^2 numbers once,
d + 2 for each check.

Legend: D features, P = D + 1 (features and intercept).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Linear
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks
from scaletrain.errors import InvalidSpec
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Progress, State
from scaletrain.estimators.limits import GRAM_FEATURES, is_wide

from . import iterated
from .iterated import IteratedRegression
from .normal import NormalEquations

ENOUGH = 1e-8  # relative duality gap
MAX_CHECKS = 6
AT_REST = 1e-11  # a move of a coefficient, in lengths of its column by that of the target
MAX_SWEEPS = 10_000


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> IteratedRegression:
    return iterated.restore(params, arrays, facts)


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Linear,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> IteratedRegression:
    """InvalidSpec with too many features for a Gram matrix. `seed` is not used: nothing is random."""
    if is_wide(blocks.num_features):
        raise InvalidSpec(
            f"workload.linear.l1: takes at most {GRAM_FEATURES:,} features after preparation, the data have "
            f"{blocks.num_features:,}"
        )
    saved = checkpoint.resume()
    equations = NormalEquations.opened(comm, blocks, params, saved)
    rows = equations.rows
    net = _Net(equations=equations, half_l1=(params.l1 or 0.0) / 2 / rows.scale)
    at = _At.restored(saved) if saved else _At.started(equations.moment_P)
    while at.step < MAX_CHECKS and at.gap > ENOUGH:
        at = net.next(at)
        checkpoint.offer(at.step, {"point": at.point_P}, partial(at.rest, equations))
        progress(at.step, of=MAX_CHECKS, metric="gap", value=at.gap)
    return IteratedRegression(
        coef_D=at.point_P[:-1].numpy(),
        intercept=equations.rows.intercept(at.point_P),
        n_iter=at.step,
        objective=at.objective * rows.scale,
        certificate=at.gap,
        solver="cd",
        converged=at.gap <= ENOUGH,
        weight=float(equations.moment_QQ[-2, -2]) * rows.scale,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _At:
    """A solution, and the right side for the next one."""

    step: int
    point_P: Tensor
    right_P: Tensor
    objective: float  # by the largest weight
    gap: float  # relative

    @classmethod
    def started(cls, moment_P: Tensor) -> "_At":
        return cls(step=0, point_P=torch.zeros_like(moment_P), right_P=moment_P, objective=0.0, gap=1.0)

    @classmethod
    def restored(cls, saved: State) -> "_At":
        step, objective, gap = saved["facts"].tolist()
        return cls(step=int(step), point_P=saved["point"], right_P=saved["right"], objective=objective, gap=gap)

    def rest(self, equations: NormalEquations) -> State:
        facts = torch.tensor([self.step, self.objective, self.gap], dtype=torch.float64)
        return {**equations.state(), "right": self.right_P, "facts": facts}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Net:
    """The problem in the coordinates of `LeastSquares`."""

    equations: NormalEquations
    half_l1: float

    def next(self, at: _At) -> _At:
        """Descends on rank 0, checks on the data."""
        equations = self.equations
        point_P = equations.rows.comm.broadcast(self._descended(at) if equations.solver else at.point_P)
        slope_P, square = equations.rows.residuals(point_P)
        primal, gap = self._gap(point_P, slope_P, square)
        return _At(
            step=at.step + 1,
            point_P=point_P,
            right_P=slope_P + equations.multiplied(point_P),
            objective=2 * primal,
            gap=gap / primal if primal else 0.0,
        )

    def _descended(self, at: _At) -> Tensor:
        A_DD = self.equations.reduced().numpy()
        right_D = self.equations.reduced_right(at.right_P).numpy()
        coef_D = coordinate_descent(A_DD, right_D, self.half_l1, at.point_P[:-1].numpy())
        return self.equations.with_intercept(torch.from_numpy(coef_D), at.right_P)

    def _gap(self, point_P: Tensor, slope_P: Tensor, square: float) -> tuple[float, float]:
        """Half the objective and the duality gap of that, as scikit-learn's enet_coordinate_descent computes it.

        With R the residuals: R'y = R'R + R'Xw, because the residuals of the best intercept add up to 0.
        """
        coef_D, l1, l2 = point_P[:-1], self.half_l1, self.equations.l2
        norm_1, norm_2 = float(coef_D.abs().sum()), float(coef_D @ coef_D)
        largest = float((slope_P[:-1] - l2 * coef_D).abs().max())
        scale = min(1.0, l1 / largest) if largest else 1.0
        primal = (square + l2 * norm_2) / 2 + l1 * norm_1
        inner = square + float(slope_P @ point_P)
        gap = square * (1 + scale**2) / 2 + l1 * norm_1 - scale * inner + l2 * (1 + scale**2) * norm_2 / 2
        return primal, max(0.0, gap)


def coordinate_descent(A_DD: np.ndarray, right_D: np.ndarray, half_l1: float, coef_D: np.ndarray) -> np.ndarray:
    """The minimum of w'Aw / 2 - right'w + half_l1 |w|_1, from `coef_D` on. A: symmetric, positive semidefinite."""
    coef_D, diagonal_D = coef_D.copy(), A_DD.diagonal().copy()
    left_D = right_D - A_DD @ coef_D
    usable_D = diagonal_D > 0
    rest = AT_REST * float(np.max(np.abs(right_D) / np.sqrt(np.where(usable_D, diagonal_D, np.inf)), initial=0.0))

    def sweep(places: np.ndarray) -> float:
        """The largest move."""
        largest = 0.0
        for d in places:
            wanted = left_D[d] + diagonal_D[d] * coef_D[d]
            value = np.sign(wanted) * max(0.0, abs(wanted) - half_l1) / diagonal_D[d] + 0.0  # never -0
            move = value - coef_D[d]
            if move:
                np.subtract(left_D, A_DD[d] * move, out=left_D)
                coef_D[d] = value
                largest = max(largest, abs(move) * diagonal_D[d] ** 0.5)
        return largest

    everything, is_of_all = np.flatnonzero(usable_D), True
    for _ in range(MAX_SWEEPS):  # of columns that differ by rounding only, some never rest
        is_at_rest = sweep(everything if is_of_all else np.flatnonzero(coef_D)) <= rest
        if is_at_rest and is_of_all:
            break
        is_of_all = is_at_rest
    return coef_D
