"""Least squares and ridge regression by normal equations, refined on the data.

    minimise  sum_i w_i (y_i - x_i b - a)^2 + l2 |b|^2

One pass sums the products of all columns, about a shift near their means: in the dtype of the features as long as the condition
of the columns bears it, else once more in float64 about the means themselves. The Gram matrix squares the condition, and float32
has 7 digits; refinement with float64 residuals that are computed from the data gives all of it back, and the result agrees with
scikit-learn's LinearRegression (an SVD of the data) or Ridge. If columns depend on each other, the coefficients of the smallest
norm are taken, as LinearRegression does.

Cost: n d^2 flops and two reads of the rows for the products, 4 n d flops for a refinement (mostly one). All-reduced: (d + 2)^2
numbers once, d + 2 for each refinement. Above the limit of a Gram matrix, conjugate gradients take its place (`wide`).

Legend: N rows of a block, D features, P = D + 1 (features and intercept), Q = D + 2 (and target).
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
from scaletrain.data.blocks import Blocks
from scaletrain.estimators.base import NO_CHECKPOINT, Checkpoint, Facts, Progress, State
from scaletrain.estimators.limits import is_wide

from . import wide
from .least_squares import LeastSquares, open_rows
from .normal import NormalEquations

if TYPE_CHECKING:
    from sklearn.linear_model import LinearRegression, Ridge

MAX_STEPS = 6  # the first solution, and its refinements
ENOUGH = 1e-10  # relative error of the coefficients


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """What says how good the coefficients are."""

    name: str
    enough: float
    warning: str


CERTIFICATES = {
    # What one more refinement would change, relative to the largest coefficient: an estimate.
    "cholesky": Certificate(
        name="change",
        enough=ENOUGH,
        warning="the coefficients are exact to {:.1g} of the largest only: scale the features, or set l2",
    ),
    # Of the normal equations, by that of 0.
    "cg": Certificate(
        name="residual",
        enough=wide.ENOUGH,
        warning="the normal equations are solved to {:.1g} only: scale the features, or raise l2",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionResult:
    """Coefficients and what they are worth."""

    coef_D: np.ndarray  # float64
    intercept: float
    objective: float
    certificate: float  # see CERTIFICATES
    solver: str  # cholesky, or cg
    n_iter: int
    rank: int | None = None  # independent columns, after centring; None: cg does not tell
    condition: float | None = None  # of the columns scaled to one length, estimated; squared condition of the data

    @property
    def converged(self) -> bool:
        return self.certificate <= CERTIFICATES[self.solver].enough

    def arrays(self) -> dict[str, np.ndarray]:
        return {"coef": self.coef_D, "intercept": np.array([self.intercept])}

    def facts(self) -> Facts:
        certificate = CERTIFICATES[self.solver]
        facts: Facts = {name: getattr(self, name) for name in ("solver", "n_iter", "objective", "converged")}
        facts[certificate.name] = self.certificate
        if self.rank is not None:
            facts |= {"rank": self.rank, "condition": self.condition}
        warnings = []
        if self.rank is not None and self.rank < len(self.coef_D):
            warnings.append(
                f"only {self.rank} of {len(self.coef_D)} columns are linearly independent (a constant column counts as "
                "dependent if there is an intercept); the coefficients are those with the smallest norm"
            )
        if not self.converged:
            warnings.append(certificate.warning.format(self.certificate))
        if warnings:
            facts["warning"] = "; ".join(warnings)
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
        if not params.l2 and self.rank is not None:
            model.rank_ = self.rank
        return model


def restore(params: Linear, arrays: Mapping[str, np.ndarray], facts: Facts) -> RegressionResult:
    return RegressionResult(
        coef_D=arrays["coef"],
        intercept=float(arrays["intercept"][0]),
        objective=facts["objective"],
        certificate=facts[CERTIFICATES[facts["solver"]].name],
        solver=facts["solver"],
        n_iter=facts["n_iter"],
        rank=facts.get("rank"),
        condition=facts.get("condition"),
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
    if is_wide(blocks.num_features):
        rows = open_rows(comm, blocks, fit_intercept=params.fit_intercept)
        return _by_conjugate_gradients(rows, params.l2 or 0.0, progress, checkpoint)
    saved = checkpoint.resume()
    return _by_cholesky(NormalEquations.opened(comm, blocks, params, saved), saved, progress, checkpoint)


def _by_conjugate_gradients(
    rows: LeastSquares, l2: float, progress: Progress, checkpoint: Checkpoint
) -> RegressionResult:
    found = wide.minimise_squares(rows, l2, checkpoint, progress)
    return RegressionResult(
        coef_D=found.point_P[:-1].numpy(),
        intercept=rows.intercept(found.point_P),
        objective=found.objective,
        certificate=found.residual,
        solver="cg",
        n_iter=found.n_iter,
    )


def _by_cholesky(
    equations: NormalEquations, saved: State | None, progress: Progress, checkpoint: Checkpoint
) -> RegressionResult:
    if saved:
        state = _State.restored(saved)
    else:
        state = _State(step=1, point_P=equations.solve(equations.moment_P), change=1.0, objective=0.0)
        checkpoint.offer(1, state.model(), partial(state.rest, equations))
        progress(1, of=MAX_STEPS)
    is_last = False
    while not is_last:
        state = _refined(equations, state)
        is_last = state.step == MAX_STEPS or state.remaining <= ENOUGH
        checkpoint.offer(state.step, state.model(), None if is_last else partial(state.rest, equations))
        progress(state.step, of=MAX_STEPS, metric="objective", value=state.objective)
    rank, condition = equations.facts()
    return RegressionResult(
        coef_D=state.point_P[:-1].numpy(),
        intercept=equations.rows.intercept(state.point_P),
        objective=state.objective,
        certificate=state.remaining,
        solver="cholesky",
        n_iter=state.step,
        rank=rank,
        condition=condition,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    """A solution and how good it is."""

    step: int
    point_P: Tensor
    change: float  # of the last refinement, relative to the largest coefficient
    before: float = 1.0  # of the one before
    objective: float

    @property
    def remaining(self) -> float:
        """What the next refinement will change: each is smaller than the last by about the same factor."""
        return self.change * min(1.0, self.change / self.before) if self.before else 0.0

    def model(self) -> State:
        return {"coef": self.point_P[:-1]}

    def rest(self, equations: NormalEquations) -> State:
        """With the sums of the one pass that is long, so that a resume need not make it again."""
        numbers = torch.tensor([self.step, self.change, self.before, self.objective], dtype=torch.float64)
        return {**equations.state(), "point": self.point_P, "numbers": numbers}

    @classmethod
    def restored(cls, saved: State) -> "_State":
        step, change, before, objective = saved["numbers"].tolist()
        return cls(step=int(step), point_P=saved["point"], change=change, before=before, objective=objective)


def _refined(equations: NormalEquations, state: _State) -> _State:
    slope_P, square = equations.rows.residuals(state.point_P)
    coef_D = state.point_P[:-1]
    slope_P[:-1] -= equations.l2 * coef_D
    change_P = equations.solve(slope_P)
    point_P = state.point_P + change_P
    largest = float(point_P[:-1].abs().max())
    value = square + equations.l2 * float(coef_D @ coef_D) - float(change_P @ slope_P)  # after the change
    return _State(
        step=state.step + 1,
        point_P=point_P,
        change=float(change_P[:-1].abs().max()) / largest if largest else 0.0,
        before=state.change,
        objective=max(0.0, value) * equations.rows.scale,
    )
