"""scikit-learn's LogisticRegression and LinearSVC. Legend: N rows, D features, K classes."""

import warnings
from dataclasses import replace
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import BaseEstimator, _fit_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model._base import LinearClassifierMixin, SparseCoefMixin
from sklearn.utils._param_validation import Interval, StrOptions

from scalejob.api.v1alpha1 import Linear, Svm
from scalejob.api.v1alpha1.workload import ClassWeight
from scaletrain.comm import Comm
from scaletrain.data.blocks import Block, Blocks, each
from scaletrain.data.in_memory import Rows
from scaletrain.estimators.linear import linear
from scaletrain.estimators.moments import row_weights
from scaletrain.estimators.svm import svm
from scaletrain.estimators.svm.svm import SKLEARN_LOSS, SvmResult

from .training import CONSTRAINTS, class_weights, labelled, quiet, train

LOSSES = {name: loss for loss, name in SKLEARN_LOSS.items()}
SHARED: dict[str, Any] = {
    "tol": [Interval(Real, 0, 1, closed="right")],
    "fit_intercept": ["boolean"],
    "class_weight": [None, dict, StrOptions({"balanced"})],
    "random_state": ["random_state"],
    "max_iter": [Interval(Integral, 1, 100_000, closed="both")],
    **CONSTRAINTS,
}


class _Classifier(SparseCoefMixin, LinearClassifierMixin, BaseEstimator):
    """What both have in common. scikit-learn's mixins predict from `coef_` and `intercept_`."""

    @property
    def _solver_options(self) -> dict[str, Any]:
        """Fields that the workloads `linear` and `svm` share."""
        is_balanced = self.class_weight == "balanced"
        return {
            "fit_intercept": self.fit_intercept,
            "class_weight": ClassWeight.BALANCED if is_balanced else ClassWeight.NONE,
            "max_iterations": self.max_iter,
            "tolerance": self.tol,
        }

    def _warn(self, advice: str) -> None:
        message = f"{type(self).__name__} did not reach tol={self.tol} within max_iter={self.max_iter}: {advice}"
        warnings.warn(message, ConvergenceWarning, stacklevel=3)


class LogisticRegression(_Classifier):
    """Logistic regression with the objective of scikit-learn's, multinomial (softmax) for more than two classes.

    Parameters
    ----------
    C : float, default=1.0
        Weight of the losses against half the squared norm of the coefficients; np.inf: no penalty. The intercept is free.
    tol : float, default=1e-6
        The largest component of the mean gradient at which to stop.
    fit_intercept : bool, default=True
    class_weight : dict or 'balanced', default=None
    random_state : ignored
        Nothing is random. It is here because programs for scikit-learn give it.
    max_iter : int, default=100
        Steps of Newton's method, or of L-BFGS for more than two classes.
    n_jobs : int, default=None
        Threads. None or -1: OMP_NUM_THREADS, or else all CPUs that the process may use. The model does not depend on it.
    comm : Comm, default=None
        The ranks that learn together. Each calls `fit` with rows of its own, those of rank r after those of rank r - 1, and all
        get the same model: that of all rows in one process.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : ndarray of shape (1, n_features) or (n_classes, n_features), in the dtype of X
    intercept_ : ndarray of shape (1,) or (n_classes,)
    n_iter_ : int32 ndarray of shape (1,)
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {"C": [Interval(Real, 0, None, closed="right")], **SHARED}

    def __init__(
        self,
        *,
        C: float = 1.0,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        max_iter: int = 100,
        n_jobs: int | None = None,
        comm: Comm | None = None,
    ) -> None:
        self.C = C
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.comm = comm

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LogisticRegression":
        """X: array-like (N, D); y: classes (N,); sample_weight: array-like (N,), default: all 1."""
        rows, self.classes_ = labelled(self, X, y, sample_weight)
        if isinstance(self.class_weight, dict):
            rows = _weighted(rows, class_weights(self.class_weight, self.classes_))
        params = Linear(task="classification", l2=1 / self.C, **self._solver_options)
        result = train(self, rows, partial(linear.fit, params=params, seed=0, progress=quiet))
        self.coef_ = result.coef_KD.astype(rows.X_ND.dtype)
        self.intercept_ = result.intercept_K.astype(rows.X_ND.dtype)
        self.n_iter_ = np.array([result.n_iter], dtype=np.int32)
        if result.is_separable:
            self._warn("the classes can be separated, so that there is no finite optimum; make C finite")
        elif not result.converged:
            self._warn("raise max_iter, scale the features, or lower C")
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities of the classes (N, K) in the order of `classes_`."""
        z = self.decision_function(X)
        return np.column_stack([expit(-z), expit(z)]) if z.ndim == 1 else softmax(z, axis=1)

    def predict_log_proba(self, X: Any) -> np.ndarray:
        """Their logarithms, finite also where a probability is too small for a float."""
        z = self.decision_function(X)
        return np.column_stack([log_expit(-z), log_expit(z)]) if z.ndim == 1 else log_softmax(z, axis=1)


class LinearSVC(_Classifier):
    """A linear support vector machine, one class against the rest above two.

    Parameters
    ----------
    loss : {'squared_hinge', 'hinge'}, default='squared_hinge'
        'squared_hinge': the objective of scikit-learn's LinearSVC, whose penalty includes the intercept. 'hinge': that of
        SVC(kernel='linear'), whose intercept is free.
    tol : float, default=1e-6
        'squared_hinge': the ratio of the gradient's norm to its first value at which to stop; 'hinge': the relative duality gap.
    C : float, default=1.0
        Weight of the losses against half the squared norm of the coefficients.
    fit_intercept : bool, default=True
    class_weight : dict or 'balanced', default=None
    random_state : ignored
        Nothing is random. It is here because programs for scikit-learn give it.
    max_iter : int, default=100
        Steps of Newton's method for each class.
    n_jobs : int, default=None
        Threads. None or -1: OMP_NUM_THREADS, or else all CPUs that the process may use. The model does not depend on it.
    comm : Comm, default=None
        The ranks that learn together. Each calls `fit` with rows of its own, those of rank r after those of rank r - 1, and all
        get the same model: that of all rows in one process.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
    coef_ : float64 ndarray of shape (1, n_features) or (n_classes, n_features)
    intercept_ : float64 ndarray of shape (1,) or (n_classes,); 0.0 without intercept
    n_iter_ : int
        The largest of all classes.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "loss": [StrOptions(set(LOSSES))],
        "C": [Interval(Real, 0, None, closed="neither")],
        **SHARED,
    }

    def __init__(
        self,
        *,
        loss: str = "squared_hinge",
        tol: float = 1e-6,
        C: float = 1.0,
        fit_intercept: bool = True,
        class_weight: Any = None,
        random_state: Any = None,
        max_iter: int = 100,
        n_jobs: int | None = None,
        comm: Comm | None = None,
    ) -> None:
        self.loss = loss
        self.tol = tol
        self.C = C
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.random_state = random_state
        self.max_iter = max_iter
        self.n_jobs = n_jobs
        self.comm = comm

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> "LinearSVC":
        """X: array-like (N, D); y: classes (N,); sample_weight: array-like (N,), default: all 1."""
        rows, self.classes_ = labelled(self, X, y, sample_weight)
        results = train(self, rows, self._fit_classes)
        self.coef_ = np.concatenate([result.coef_KD for result in results])
        self.intercept_ = np.concatenate([result.intercept_K for result in results]) if self.fit_intercept else 0.0
        self.n_iter_ = max(max(result.n_iter) for result in results)
        if not all(result.converged for result in results):
            self._warn("raise max_iter, scale the features, or lower C")
        return self

    def _fit_classes(self, comm: Comm, blocks: Blocks) -> list[SvmResult]:
        params = Svm(loss=LOSSES[self.loss], c=self.C, **self._solver_options)
        fit = partial(svm.fit, comm, params=params, seed=0, progress=quiet)
        if not isinstance(self.class_weight, dict):
            return [fit(blocks)]
        weight_K = class_weights(self.class_weight, self.classes_)
        # As in LIBLINEAR: above two classes, only the rows of the class itself get its weight.
        sides = [(1, weight_K[1], weight_K[0])] if len(weight_K) == 2 else [(k, w, 1.0) for k, w in enumerate(weight_K)]
        return [fit(_against_rest(blocks, *side)) for side in sides]


def _weighted(rows: Rows, weight_K: np.ndarray) -> Rows:
    """Rows whose weights are multiplied with those of their classes."""
    weight_N = weight_K[rows.y_N]
    return replace(rows, weight_N=weight_N if rows.weight_N is None else weight_N * rows.weight_N)


def _against_rest(blocks: Blocks, positive: int, weight: float, rest: float) -> Blocks:
    """Two classes, 1 the positive one, with weights for each."""

    def changed(block: Block) -> Block:
        y_N = (block.y_N == positive).to(torch.int64)
        weight_2 = torch.tensor([rest, weight], dtype=torch.float64, device=block.device)
        return replace(block, y_N=y_N, weight_N=weight_2[y_N] * row_weights(block))

    return replace(blocks, blocks=each(blocks.blocks, changed))
