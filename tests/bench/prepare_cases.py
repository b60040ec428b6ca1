"""The fit of StandardScaler and PCA beside scikit-learn's. The transform is a part of neither side."""

from typing import Any

from tests.bench.case import Case, Data, Fit
from tests.bench.ours import blocks_of, preparation_of

ROWS, FEATURES, COMPONENTS = 200_000, 100, 20


def rows(scale: float) -> Data:
    """Of features with different means and spreads."""
    import numpy as np  # noqa: PLC0415 - after the number of threads is set, here and below

    rng, count = np.random.default_rng(0), max(1_000, int(ROWS * scale))
    X = rng.standard_normal((count, FEATURES), dtype="float32")
    return X * np.geomspace(1, 10, FEATURES, dtype="float32") + np.arange(FEATURES, dtype="float32") / 10, None


def our_scaler(data: Data) -> tuple[Fit, None]:
    return preparation_of({"scale": "standard"}, blocks_of(data)), None


def our_pca(data: Data) -> tuple[Fit, None]:
    return preparation_of({"pca": {"components": COMPONENTS}}, blocks_of(data)), None


def _fitted(data: Data, model: Any) -> tuple[Fit, None]:
    return lambda: model.fit(data[0]), None


def scaler(data: Data) -> tuple[Fit, None]:
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    return _fitted(data, StandardScaler())


def pca(data: Data) -> tuple[Fit, None]:
    from sklearn.decomposition import PCA  # noqa: PLC0415

    return _fitted(data, PCA(COMPONENTS))


CASES = (
    Case(name=f"StandardScaler {ROWS:,} x {FEATURES}", times=1, data=rows, ours=our_scaler, peer=scaler),
    Case(name=f"PCA {ROWS:,} x {FEATURES}, {COMPONENTS} components", times=1, data=rows, ours=our_pca, peer=pca),
)
