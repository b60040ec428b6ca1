"""K-Means from the same first centres for the same number of iterations, beside scikit-learn's and dask-ml's."""

from functools import partial
from typing import Any

from tests.bench.case import Case, Data, Fit, Judge
from tests.bench.ours import blocks_of, fit_of, kmeans_fields

ITERATIONS = 20


def blobs(scale: float, *, rows: int, features: int, blobs: int = 100) -> Data:
    """Gaussian blobs, whose centres are 0.9 standard deviations from 0 in each direction."""
    import numpy as np  # noqa: PLC0415 - after the number of threads is set, here and below

    rng, rows = np.random.default_rng(0), max(2_000, int(rows * scale))
    centers = (0.9 * rng.standard_normal((blobs, features))).astype("float32")
    return centers[rng.integers(0, blobs, rows)] + rng.standard_normal((rows, features), dtype="float32"), None


def inertia(data: Data, C: Any) -> float:
    """In float64, of the nearest centres."""
    import numpy as np  # noqa: PLC0415

    C = np.asarray(C, dtype=np.float64)
    total = 0.0
    for X in np.array_split(data[0], max(1, len(data[0]) // 4096)):
        X = X.astype(np.float64)
        label = (X @ C.T - (C * C).sum(1) / 2).argmax(1)
        total += float(((X - C[label]) ** 2).sum())
    return total


def ours(data: Data, *, clusters: int) -> tuple[Fit, Judge]:
    fit = fit_of("kmeans", kmeans_fields(data[0][:clusters], ITERATIONS), blocks_of(data))
    return fit, lambda model: inertia(data, model.centers_KD)


def sklearn(data: Data, *, clusters: int) -> tuple[Fit, Judge]:
    """The inertia is that of a fit to the same rows in float64: in float32 scikit-learn rounds the sums of the rows, so that
    after 20 iterations (200,000 x 32) its inertia differs by 1.4e-5 from that in float64, ours by less than 1e-11."""
    from sklearn.cluster import KMeans  # noqa: PLC0415

    def fit(X: Any) -> Any:
        model = KMeans(clusters, init=X[:clusters], n_init=1, max_iter=ITERATIONS, tol=0, algorithm="lloyd")
        return model.fit(X)

    return lambda: fit(data[0]), lambda _: inertia(data, fit(data[0].astype("float64")).cluster_centers_)


def dask(data: Data, *, clusters: int) -> tuple[Fit, Judge]:
    import dask  # noqa: PLC0415
    import dask.array as da  # noqa: PLC0415
    from dask_ml.cluster import KMeans  # noqa: PLC0415

    dask.config.set(scheduler="synchronous")
    X = da.from_array(data[0], chunks=(max(1, len(data[0]) // 8), -1))
    model = KMeans(clusters, init=data[0][:clusters].copy(), max_iter=ITERATIONS, tol=0)
    return lambda: model.fit(X), lambda model: inertia(data, model.cluster_centers_)


def _case(features: int, rows: int, times: float, *, clusters: int = 100, num_blobs: int = 100, note: str = "") -> Case:
    return Case(
        name=f"kmeans {rows:,} x {features}, k={clusters}{note}",
        times=times,
        data=partial(blobs, rows=rows, features=features, blobs=num_blobs),
        ours=partial(ours, clusters=clusters),
        peer=partial(sklearn, clusters=clusters),
        tolerance=1e-6,
        warm_up=0.02,
    )


CASES = (
    _case(10, 200_000, 0.9),
    _case(32, 200_000, 1.15),
    _case(64, 200_000, 1.15),
    _case(128, 200_000, 1.15),
    _case(784, 20_000, 0.9),
    _case(64, 200_000, 1.15, num_blobs=20, note=" in 20 blobs"),
    _case(50, 200_000, 1 / 1.3, clusters=10, num_blobs=20, note=" in 20 blobs"),
    Case(
        name="kmeans 200,000 x 64, k=100 (dask-ml)",
        times=4,
        data=partial(blobs, rows=200_000, features=64),
        ours=partial(ours, clusters=100),
        peer=partial(dask, clusters=100),
        tolerance=1e-6,
        packages=("dask-ml",),
        warm_up=0.02,
    ),
)
