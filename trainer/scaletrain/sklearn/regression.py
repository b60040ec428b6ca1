"""scikit-learn's LinearRegression and Ridge. Legend: N rows, D features, T targets."""

from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import MultiOutputMixin, RegressorMixin, _fit_context
from sklearn.linear_model._base import LinearModel
from sklearn.utils._param_validation import Interval

from scalejob.api.v1alpha1 import Linear
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks, each
from scaletrain.data.in_memory import Rows
from scaletrain.estimators.linear import linear
from scaletrain.estimators.linear.regression import RegressionResult

from .training import CONSTRAINTS, agreed, checked, comm_of, quiet, train, weights_of


class LinearRegression(MultiOutputMixin, RegressorMixin, LinearModel):
    """Least squares; with `alpha` above 0 the objective of scikit-learn's Ridge.

    Parameters
    ----------
    alpha : float, default=0
        Weight of the squared norm of the coefficients; the intercept is free.
    fit_intercept : bool, default=True
    n_jobs : int, default=None
        Threads. None or -1: OMP_NUM_THREADS, or else all CPUs that the process may use. The model does not depend on it.
    comm : Comm, default=None
        The ranks that learn together. Each calls `fit` with rows of its own, those of rank r after those of rank r - 1, and all
        get the same model: that of all rows in one process.

    Attributes
    ----------
    coef_ : ndarray of shape (n_features,) or (n_targets, n_features)
    intercept_ : float or ndarray of shape (n_targets,)
    rank_ : int
        Independent columns of X, centred if there is an intercept.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "alpha": [Interval(Real, 0, None, closed="left")],
        "fit_intercept": ["boolean"],
        **CONSTRAINTS,
    }

    def __init__(
        self, *, alpha: float = 0.0, fit_intercept: bool = True, n_jobs: int | None = None, comm: Comm | None = None
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.n_jobs = n_jobs
        self.comm = comm

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LinearRegression":
        """X: array-like (N, D); y: numbers (N,) or (N, T); sample_weight: array-like (N,), default: all 1."""
        comm = comm_of(self)
        with agreed(comm):
            X_ND, y_N = checked(self, comm, X, y, multi_output=True, y_numeric=True)
            weight_N = weights_of(sample_weight, X_ND)
        y_NT = y_N.astype(np.float64)[:, None] if y_N.ndim == 1 else y_N.astype(np.float64)
        fit = partial(self._fit_targets, y_NT.shape[1])
        results = train(self, Rows(X_ND=X_ND, y_N=y_NT, weight_N=weight_N), fit)
        coef_TD = np.stack([result.coef_D for result in results]).astype(X_ND.dtype)
        intercept_T = np.array([result.intercept for result in results], dtype=X_ND.dtype)
        self.coef_, intercept = (coef_TD[0], intercept_T[0]) if y_N.ndim == 1 else (coef_TD, intercept_T)
        self.intercept_ = intercept if self.fit_intercept else 0.0
        self.rank_ = results[0].rank
        return self

    def _fit_targets(self, num_targets: int, comm: Comm, blocks: Blocks) -> list[RegressionResult]:
        params = Linear(task="regression", l2=self.alpha, fit_intercept=self.fit_intercept)
        return [linear.fit(comm, _target(blocks, t), params, seed=0, progress=quiet) for t in range(num_targets)]


def _target(blocks: Blocks, t: int) -> Blocks:
    return replace(blocks, blocks=each(blocks.blocks, lambda block: replace(block, y_N=block.y_N[:, t].contiguous())))
