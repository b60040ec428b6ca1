"""What the estimators do with their arrays: check them on all ranks, cut them into blocks, fit, and say what is wrong as scikit-learn does.

Legend: N rows, D features, K classes.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from numbers import Integral
from typing import Any, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils._param_validation import Interval, Options
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import _check_sample_weight, _num_samples, validate_data

from scaletrain.comm import Comm, SoloComm
from scaletrain.data.blocks import Blocks
from scaletrain.data.check import LARGEST
from scaletrain.data.exchange import gather_json
from scaletrain.data.in_memory import Rows, blocks_of
from scaletrain.errors import UserFault

from .threads import num_threads, one_blas_thread

T = TypeVar("T")

CONSTRAINTS: dict[str, Any] = {
    "n_jobs": [None, Interval(Integral, 1, None, closed="left"), Options(Integral, {-1})],
    "comm": "no_validation",
}
FORMAT: dict[str, Any] = {"dtype": [np.float64, np.float32], "order": "C"}


def comm_of(estimator: BaseEstimator) -> Comm:
    return estimator.comm or SoloComm()


def quiet(step: int, **_: Any) -> None:
    """Progress that nobody watches."""


@contextmanager
def agreed(comm: Comm) -> Iterator[None]:
    """An error of one rank is one of every rank, so that none waits for the others. One collective."""
    mine: Exception | None = None
    try:
        yield
    except Exception as error:
        mine = error
    told = gather_json(comm, mine and f"{type(mine).__name__}: {mine}") if comm.size > 1 else []
    if mine:
        raise mine
    for rank, message in enumerate(told):
        if message:
            raise ValueError(f"rank {rank} was given rows that cannot be learned from: {message}")


def checked(estimator: BaseEstimator, comm: Comm, X: Any, y: Any = "no_validation", **more: Any) -> Any:
    """scikit-learn's `validate_data`, and values that can be squared and summed. Ranks of several may have no rows."""
    if comm.size > 1 and not _num_samples(X):
        X_0D = validate_data(estimator, X, **FORMAT, ensure_min_samples=0)
        return X_0D if isinstance(y, str) else (X_0D, np.asarray(y))
    found = validate_data(estimator, X, y, **FORMAT, **more)
    for name, values in zip("Xy", found if isinstance(found, tuple) else (found,), strict=False):
        if values.dtype == np.float64 and values.size and max(values.max(), -values.min()) > LARGEST:
            raise ValueError(f"Input {name} contains values beyond {LARGEST:g}, too large to be learned from.")
    return found


def weights_of(sample_weight: Any, X_ND: np.ndarray) -> np.ndarray | None:
    """float64 (N,), checked; None for none."""
    if sample_weight is None:
        return None
    if not len(X_ND):
        return np.empty(0)
    return _check_sample_weight(sample_weight, X_ND, dtype=np.float64, ensure_non_negative=True)


def labelled(estimator: BaseEstimator, X: Any, y: Any, sample_weight: Any) -> tuple[Rows, np.ndarray]:
    """The rows of a classifier, with numbers of classes, and the classes of all ranks (K,) in ascending order."""
    comm = comm_of(estimator)
    with agreed(comm):
        X_ND, y_N = checked(estimator, comm, X, y)
        if len(y_N):
            check_classification_targets(y_N)
        weight_N = weights_of(sample_weight, X_ND)
    classes = _classes(comm, np.unique(y_N))
    if len(classes) < 2:
        raise ValueError(
            f"{type(estimator).__name__} needs samples of at least 2 classes in the data, but the data contains only one "
            f"class: {classes.tolist()}"
        )
    return Rows(X_ND=X_ND, y_N=np.searchsorted(classes, y_N).astype(np.int64), weight_N=weight_N), classes


def _classes(comm: Comm, seen: np.ndarray) -> np.ndarray:
    if comm.size == 1:
        return seen
    parts = [np.array(labels, dtype=dtype) for dtype, labels in gather_json(comm, [seen.dtype.str, seen.tolist()])]
    return np.unique(np.concatenate([part for part in parts if len(part)] or parts[:1]))


def class_weights(given: Mapping[Any, float], classes: np.ndarray) -> np.ndarray:
    """float64 (K,): 1 for classes that `given` does not name."""
    return compute_class_weight(given, classes=classes, y=classes).astype(np.float64)


def train(estimator: BaseEstimator, rows: Rows, fit: Callable[[Comm, Blocks], T]) -> T:
    """`fit` over the rows of all ranks. ValueError if the data cannot be learned from."""
    comm = comm_of(estimator)
    with one_blas_thread():
        try:
            blocks = blocks_of(comm, _alike(comm, rows), threads=num_threads(estimator.n_jobs))
            return fit(comm, blocks)
        except UserFault as error:
            raise ValueError(str(error)) from error


def _alike(comm: Comm, rows: Rows) -> Rows:
    """As wide and as precise as on the other ranks; with weights if one of them has some."""
    if comm.size == 1:
        return rows
    shape = list(rows.X_ND.shape[1:]), [] if rows.y_N is None else list(rows.y_N.shape[1:])
    everyone = gather_json(comm, [shape, rows.X_ND.dtype.str, rows.weight_N is not None])
    shapes, dtypes, weighted = zip(*everyone, strict=True)
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(f"the ranks were given different numbers of features or targets: {list(shapes)}")
    weight_N = rows.weight_N if rows.weight_N is not None or not any(weighted) else np.ones(len(rows))
    return Rows(X_ND=rows.X_ND.astype(np.result_type(*dtypes), copy=False), y_N=rows.y_N, weight_N=weight_N)
