"""Least squares and ridge regression by normal equations on centred columns, refined on the data.

    minimise  sum_i w_i (y_i - x_i b - a)^2 + l2 |b|^2

The Gram matrix squares the condition number; refinement with residuals that are computed from the data gives it back, and the
result agrees with scikit-learn's LinearRegression (an SVD of the data) or Ridge. If columns depend on each other, the
coefficients of the smallest norm are taken, as LinearRegression does.

Legend: N rows of a block, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from scalejob.api.v1alpha1 import Linear
from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks
from scaletrain.exact import sum_blocks

from .base import NO_CHECKPOINT, Checkpoint, Facts, Progress, State
from .linalg import Solver, factor, gram
from .moments import SLACK, Moments, max_target, moments, row_weights

if TYPE_CHECKING:
    from sklearn.linear_model import LinearRegression, Ridge

MAX_STEPS = 5  # the first solution, and its refinements
ENOUGH = 1e-10  # a refinement that changes the coefficients by less, relatively, was the last


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionResult:
    """Coefficients and what they are worth."""

    coef_D: np.ndarray  # float64
    intercept: float
    rank: int  # independent columns, after centring
    condition: float  # of the columns scaled to one length, estimated; squared condition of the data
    objective: float

    def arrays(self) -> dict[str, np.ndarray]:
        return {"coef": self.coef_D, "intercept": np.array([self.intercept])}

    def facts(self) -> Facts:
        facts: Facts = {"rank": self.rank, "condition": self.condition, "objective": self.objective, "converged": True}
        if self.rank < len(self.coef_D):
            facts["warning"] = (
                f"only {self.rank} of {len(self.coef_D)} columns are linearly independent (a constant column counts as "
                "dependent if there is an intercept); the coefficients are those with the smallest norm"
            )
        return facts

    def decision(self, X_ND: Tensor) -> Tensor:
        """Predicted targets, float64, shape (N,)."""
        return X_ND.to(torch.float64) @ torch.from_numpy(self.coef_D).to(X_ND.device) + self.intercept

    def to_sklearn(self, params: Linear, classes: np.ndarray | None = None) -> "LinearRegression | Ridge":
        """LinearRegression, or Ridge if l2 > 0."""
        from sklearn.linear_model import LinearRegression, Ridge  # noqa: PLC0415 - takes a second

        model = (
            Ridge(alpha=params.l2, fit_intercept=params.fit_intercept)
            if params.l2
            else LinearRegression(fit_intercept=params.fit_intercept)
        )
        model.coef_, model.intercept_, model.n_features_in_ = self.coef_D.copy(), self.intercept, len(self.coef_D)
        if not params.l2:
            model.rank_ = self.rank
        return model


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> RegressionResult:
    return RegressionResult(
        coef_D=arrays["coef"],
        intercept=float(arrays["intercept"][0]),
        rank=facts["rank"],
        condition=facts["condition"],
        objective=facts["objective"],
    )


def fit(
    comm: Comm,
    blocks: Blocks,
    params: Linear,
    *,
    seed: int,
    progress: Progress,
    checkpoint: Checkpoint = NO_CHECKPOINT,
) -> RegressionResult:
    """Least squares with weights. `seed` is not used: nothing is random."""
    task = _Task.of(comm, blocks, params)
    saved = checkpoint.resume()
    gram_DD, moment_D = (saved["gram"], saved["moment"]) if saved else task.normal_equations()
    solver = factor(gram_DD + task.l2 * torch.eye(len(moment_D), dtype=torch.float64)) if comm.rank == 0 else None
    rest = partial(_rest, gram_DD, moment_D)
    if saved:
        step, coef_D = int(saved["step"]), saved["coef"]
    else:
        step, coef_D = 1, task.agree(solver, moment_D)
        checkpoint.offer(step, {"coef": coef_D}, partial(rest, step))
        progress(step, of=MAX_STEPS)
    is_last = False
    while not is_last:
        step += 1
        slope_D, residual_square = task.residuals(coef_D)
        change_D = task.agree(solver, slope_D)
        coef_D = coef_D + change_D
        objective = residual_square + task.l2 * float(coef_D @ coef_D)
        is_last = step == MAX_STEPS or bool((change_D.abs() <= ENOUGH * coef_D.abs().max()).all())
        checkpoint.offer(step, {"coef": coef_D}, None if is_last else partial(rest, step))
        progress(step, of=MAX_STEPS, metric="objective", value=objective)
    facts = comm.broadcast(torch.tensor([solver.rank, solver.condition] if solver else [0.0, 0.0], dtype=torch.float64))
    return RegressionResult(
        coef_D=coef_D.numpy(),
        intercept=task.intercept(coef_D),
        rank=int(facts[0]),
        condition=float(facts[1]),
        objective=objective,
    )


def _rest(gram_DD: Tensor, moment_D: Tensor, step: int) -> State:
    """The sums of the one pass that is long, so that a resume need not make it again."""
    return {"gram": gram_DD, "moment": moment_D, "step": torch.tensor(step)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """The data about their centre, and exact sums over them."""

    comm: Comm
    blocks: Blocks
    l2: float
    x: Moments
    shift_D: Tensor  # the means, or zeros without an intercept
    shift_y: float
    peak_y: float  # bound on |y - shift_y|

    @classmethod
    def of(cls, comm: Comm, blocks: Blocks, params: Linear) -> "_Task":
        x = moments(comm, blocks, weighted=True)
        peak_y = max_target(comm, blocks)
        shift_y = _mean_target(comm, blocks, x, peak_y) if params.fit_intercept else 0.0
        shift_D = x.mean_D if params.fit_intercept else torch.zeros_like(x.mean_D)
        return cls(
            comm=comm, blocks=blocks, l2=params.l2 or 0.0, x=x, shift_D=shift_D, shift_y=shift_y, peak_y=2 * peak_y
        )

    @property
    def norm_D(self) -> Tensor:
        """Bounds on the lengths of the columns sqrt(w) * (x - shift)."""
        return (self.x.square_D + self.x.weight * (self.x.mean_D - self.shift_D) ** 2).sqrt() * SLACK

    @property
    def norm_y(self) -> Tensor:
        return torch.tensor(self.x.weight**0.5 * self.peak_y * SLACK, dtype=torch.float64)

    def centred(self, block: Block) -> tuple[Tensor, Tensor, Tensor]:
        """Features, targets, and square roots of the weights, float64. Columns that are constant are exactly zero."""
        X_ND = block.X_ND.to(torch.float64) - self.shift_D.to(block.device)
        if bool((self.shift_D != 0).any()):
            X_ND[:, self.x.is_constant_D.to(block.device)] = 0.0
        return X_ND, block.y_N.to(torch.float64) - self.shift_y, row_weights(block).sqrt()

    def normal_equations(self) -> tuple[Tensor, Tensor]:
        """X'WX and X'Wy in one exact sum."""

        def partial(block: Block) -> list[Tensor]:
            X_ND, y_N, root_N = self.centred(block)
            if block.weight_N is not None:
                X_ND, y_N = X_ND * root_N[:, None], y_N * root_N
            return [gram(X_ND), y_N @ X_ND]

        bounds = [torch.outer(self.norm_D, self.norm_D), self.norm_D * self.norm_y]
        gram_DD, moment_D = sum_blocks(self.comm, self.blocks, partial, bounds)
        return gram_DD, moment_D

    def residuals(self, coef_D: Tensor) -> tuple[Tensor, float]:
        """Half the negative gradient at `coef_D`, and the sum of squared residuals."""
        there_D = coef_D.to(self.comm.device)

        def partial(block: Block) -> list[Tensor]:
            X_ND, y_N, root_N = self.centred(block)
            residual_N = y_N - X_ND @ there_D
            weighted_N = residual_N * root_N**2
            return [weighted_N @ X_ND, weighted_N @ residual_N]

        norm = self.norm_y + (self.norm_D * coef_D.abs()).sum()
        slope_D, residual_square = sum_blocks(self.comm, self.blocks, partial, [self.norm_D * norm, norm**2])
        return slope_D - self.l2 * coef_D, float(residual_square)

    def agree(self, solver: Solver | None, right_D: Tensor) -> Tensor:
        """Rank 0's solution, on all ranks."""
        return self.comm.broadcast(solver.solve(right_D) if solver else torch.empty_like(right_D))

    def intercept(self, coef_D: Tensor) -> float:
        return self.shift_y - float((self.shift_D * coef_D).sum())


def _mean_target(comm: Comm, blocks: Blocks, x: Moments, peak_y: float) -> float:
    bound = torch.tensor(x.weight * peak_y * SLACK, dtype=torch.float64)
    (total,) = sum_blocks(comm, blocks, lambda block: [row_weights(block) @ block.y_N.to(torch.float64)], [bound])
    return float(total) / x.weight
