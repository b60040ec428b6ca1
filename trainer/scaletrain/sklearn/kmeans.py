"""scikit-learn's KMeans. Legend: N rows, D features, K clusters."""

import warnings
from collections.abc import Callable
from functools import partial
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    ClusterMixin,
    TransformerMixin,
    _fit_context,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import Tags, check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from torch import Tensor

from scalejob.api.v1alpha1 import KMeans as Params
from scaletrain.comm import Comm, SoloComm
from scaletrain.data.blocks import Blocks
from scaletrain.data.exchange import broadcast_json
from scaletrain.data.in_memory import Rows, blocks_of
from scaletrain.estimators.kmeans.kmeans import FirstCenters, KMeansResult, about_shift, first_centers, fit_from
from scaletrain.estimators.kmeans.nearest import points

from .threads import num_threads, one_blas_thread
from .training import CONSTRAINTS, FORMAT, agreed, checked, comm_of, quiet, train, weights_of

RUNS_FROM_RANDOM_ROWS = 10  # n_init='auto', as in scikit-learn


class KMeans(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ClusterMixin, BaseEstimator):
    """K-Means by Lloyd's algorithm with the rules of scikit-learn's, from k-means|| instead of k-means++.

    Parameters
    ----------
    n_clusters : int, default=8
    init : {'k-means||', 'random'} or array-like of shape (n_clusters, n_features), default='k-means||'
    n_init : 'auto' or int, default='auto'
        Runs from different first centres; the lowest inertia wins. 'auto': 10 for 'random', else 1.
    max_iter : int, default=300
    tol : float, default=1e-4
        Stop when the squared shift of all centres is at most this times the mean variance of the features.
    random_state : int, RandomState instance or None, default=None
        An int gives the model that a job with this `seed` learns from the same rows.
    n_jobs : int, default=None
        Threads. None or -1: OMP_NUM_THREADS, or else all CPUs that the process may use. The model does not depend on it.
    comm : Comm, default=None
        The ranks that learn together. Each calls `fit` with rows of its own, those of rank r after those of rank r - 1, and all
        get the same model: that of all rows in one process. `labels_` are those of the rank's own rows.

    Attributes
    ----------
    cluster_centers_ : ndarray of shape (n_clusters, n_features), in the dtype of X
    labels_ : int32 ndarray of shape (n_samples,)
    inertia_ : float
        Weighted sum of the squared distances of all rows to their centres.
    n_iter_ : int
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        "n_clusters": [Interval(Integral, 1, 100_000, closed="both")],
        "init": [StrOptions({"k-means||", "random"}), "array-like"],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, 1000, closed="both")],
        "max_iter": [Interval(Integral, 1, 100_000, closed="both")],
        "tol": [Interval(Real, 0, 1, closed="both")],
        "random_state": ["random_state"],
        **CONSTRAINTS,
    }

    def __init__(
        self,
        n_clusters: int = 8,
        *,
        init: Any = "k-means||",
        n_init: int | str = "auto",
        max_iter: int = 300,
        tol: float = 1e-4,
        random_state: Any = None,
        n_jobs: int | None = None,
        comm: Comm | None = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.init = init
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.comm = comm

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> "KMeans":
        """X: array-like (N, D); y: ignored; sample_weight: array-like (N,), default: all 1."""
        comm = comm_of(self)
        with agreed(comm):
            X_ND = checked(self, comm, X)
            weight_N = weights_of(sample_weight, X_ND)
            C_KD = self._given_centers(X_ND.shape[1])
        fit = partial(self._fit_blocks, self._first_centers(comm, C_KD))
        self._result = train(self, Rows(X_ND=X_ND, weight_N=weight_N), fit)
        self.cluster_centers_ = self._result.centers_KD
        self.inertia_, self.n_iter_ = self._result.inertia, self._result.n_iter
        self.labels_ = self._labels(X_ND)
        if self._result.num_distinct < self.n_clusters:
            warnings.warn(
                f"Number of distinct clusters ({self._result.num_distinct}) found smaller than n_clusters "
                f"({self.n_clusters}). Possibly due to duplicate points in X.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Numbers of the nearest centres, int32 (N,)."""
        return self._labels(self._checked(X))

    def transform(self, X: Any) -> np.ndarray:
        """Distances to all centres (N, K)."""
        return euclidean_distances(self._checked(X), self.cluster_centers_)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Minus the weighted sum of squared distances to the nearest centres, of these rows alone."""
        X_ND = self._checked(X)
        weight_N = _check_sample_weight(sample_weight, X_ND, dtype=np.float64)
        return -float(weight_N @ self._per_row(X_ND, self._result.squared_distances))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @property
    def _n_features_out(self) -> int:
        return len(self.cluster_centers_)

    @property
    def _params(self) -> Params:
        is_given = not isinstance(self.init, str)
        runs = RUNS_FROM_RANDOM_ROWS if not is_given and self.init == "random" else 1
        return Params(
            clusters=self.n_clusters,
            init="k-means||" if is_given else self.init,
            restarts=runs if self.n_init == "auto" or is_given else self.n_init,
            max_iterations=self.max_iter,
            tolerance=self.tol,
        )

    def _given_centers(self, num_features: int) -> np.ndarray | None:
        if isinstance(self.init, str):
            return None
        C_KD = check_array(self.init, dtype=np.float64, copy=True)
        shape = (self.n_clusters, num_features)
        if C_KD.shape != shape:
            raise ValueError(
                f"The shape of the initial centers {C_KD.shape} is not (n_clusters, n_features) = {shape}."
            )
        if self.n_init not in ("auto", 1):
            message = f"Explicit initial center position passed: performing one run instead of n_init={self.n_init}."
            warnings.warn(message, RuntimeWarning, stacklevel=4)
        return C_KD

    def _first_centers(self, comm: Comm, C_KD: np.ndarray | None) -> FirstCenters:
        if C_KD is None:
            return partial(first_centers, self._params, broadcast_json(comm, _seed(self.random_state)))
        return lambda data, _run: about_shift(torch.from_numpy(C_KD), data)

    def _fit_blocks(self, find: FirstCenters, comm: Comm, blocks: Blocks) -> KMeansResult:
        if blocks.num_rows < self.n_clusters:
            raise ValueError(f"n_samples={blocks.num_rows} should be >= n_clusters={self.n_clusters}.")
        data = points(comm, blocks)
        if data.num_weighted < self.n_clusters:
            raise ValueError(
                f"n_samples={data.num_weighted} of weights above 0 should be >= n_clusters={self.n_clusters}."
            )
        return fit_from(find, data, self._params, quiet)

    def _checked(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        return validate_data(self, X, reset=False, **FORMAT)

    def _labels(self, X_ND: np.ndarray) -> np.ndarray:
        return self._per_row(X_ND, self._result.labels).astype(np.int32)

    def _per_row(self, X_ND: np.ndarray, fn: Callable[[Tensor], Tensor]) -> np.ndarray:
        """`fn` of the features of each block, joined."""
        with one_blas_thread():
            blocks = blocks_of(SoloComm(), Rows(X_ND=X_ND), threads=num_threads(self.n_jobs))
            parts = [part.numpy() for part in blocks.map(lambda block: fn(block.X_ND))]
        return np.concatenate(parts) if parts else np.empty(0)


def _seed(random_state: Any) -> int:
    """An int as it is, so that it means what `seed` means in a job."""
    if isinstance(random_state, Integral):
        return int(random_state)
    return int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
