"""Restored models take what people have: rows of either precision, by themselves or after a scaler, arrays or frames."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from scalejob.api.v1alpha1 import KMeans
from scaletrain.estimators.kmeans.kmeans import KMeansResult

X = np.random.default_rng(0).standard_normal((60, 3))


def restored(dtype: type) -> object:
    facts = {"inertia": 0.0, "n_iter": 1, "converged": True, "num_distinct": 4, "restart": 0}
    return KMeansResult(centers_KD=X[:4].astype(dtype), **facts).to_sklearn(KMeans(clusters=4))


@pytest.mark.parametrize("trained", [np.float32, np.float64])
@pytest.mark.parametrize("asked", [np.float32, np.float64, np.int64])
def test_kmeans_takes_rows_of_any_type(trained: type, asked: type) -> None:
    """scikit-learn's own takes its training rows' type only."""
    model = restored(trained)
    rows = (X * 10).astype(asked)
    nearest = np.linalg.norm(rows[:, None] - X[:4].astype(trained), axis=2)
    assert model.predict(rows).tolist() == nearest.argmin(1).tolist()
    assert model.score(rows) == pytest.approx(-(nearest.min(1) ** 2).sum(), rel=1e-5)
    assert model.transform(rows) == pytest.approx(nearest, rel=1e-5, abs=1e-5)


def test_kmeans_follows_a_scaler_of_either_precision() -> None:
    """A scaler leaves float32 as it is."""
    model = make_pipeline(StandardScaler().fit(X), restored(np.float64))
    assert model.predict(X.astype(np.float32)).tolist() == model.predict(X).tolist()


def test_kmeans_can_be_fitted_again() -> None:
    """It is scikit-learn's estimator in all other ways."""
    again = clone(restored(np.float32)).set_params(n_clusters=2, n_init=1).fit(X.astype(np.float32))
    assert again.predict(X).tolist() == again.labels_.tolist()
