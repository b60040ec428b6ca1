"""What every estimator offers: a module with `fit` and `restore`, and a frozen result of plain numbers.

`params` is the member of `spec.workload` (KMeans, Linear, Svm). Every rank calls `fit` with its own blocks and gets the same
result, to the bit, whatever the number of ranks.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from scalejob.api.v1alpha1 import KMeans, Linear, Svm
from scaletrain.comm import Comm
from scaletrain.data.blocks import Blocks

if TYPE_CHECKING:
    from sklearn.base import BaseEstimator  # takes a second to import: only `to_sklearn` needs it

Params = KMeans | Linear | Svm
Facts = dict[str, Any]  # JSON: numbers, strings, lists and objects of them


class Progress(Protocol):
    """Called by each rank after each step; cheap, and only rank 0 tells anyone."""

    def __call__(
        self, step: int, *, of: int | None = None, metric: str | None = None, value: float | None = None
    ) -> None: ...


class Result(Protocol):
    """What was learned: equal on all ranks, on the CPU, independent of time and host."""

    def arrays(self) -> dict[str, np.ndarray]:
        """The learned numbers by name, for model.safetensors. Names are scikit-learn's attributes without the last `_`."""

    def facts(self) -> Facts:
        """The rest, for model.json: n_iter, objective, whether it converged, ..."""

    def to_sklearn(self, params: Params, classes: np.ndarray | None) -> "BaseEstimator":
        """The fitted scikit-learn estimator. `classes`: the labels behind class numbers 0, 1, ...; None without classes."""


class Estimator(Protocol):
    """A module of this package."""

    def fit(self, comm: Comm, blocks: Blocks, params: Params, *, seed: int, progress: Progress) -> Result:
        """Learns from the blocks of all ranks. InvalidSpec, the same on every rank, if the data cannot bear `params`."""

    def restore(self, params: Params, arrays: Mapping[str, np.ndarray], facts: Facts) -> Result:
        """The result from what `arrays` and `facts` gave: `restore(params, r.arrays(), r.facts())` equals `r`."""
