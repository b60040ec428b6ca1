"""Each workload as a job of real processes: equal bytes for 1 to 4 workers, and scikit-learn's result on the flights."""

import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.cluster import KMeans
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.svm import LinearSVC

import scaletrain
from tests.dist.forked import model_sha

FLIGHTS = Path(__file__).parents[2] / "manifests" / "samples" / "data" / "flights.py"
FEATURES = ["month", "day", "weekday", "dep_hour", "from_jfk", "from_lga", "distance", "air_time", "dep_delay"]
WORKERS = (1, 2, 3, 4)

REGRESSION = {"linear": {"task": "regression"}}
LOGISTIC = {"linear": {"task": "classification"}}
SVM = {"svm": {}}
KMEANS = {"kmeans": {"clusters": 5}}


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All flights as Parquet, as the samples use them."""
    path = tmp_path_factory.mktemp("flights") / "flights.parquet"
    script = runpy.run_path(str(FLIGHTS))
    script["write"](script["numeric_flights"](script["read_flights"]()), path)
    return path


def flights_job(flights: Path, workload: dict[str, Any], output: Path, label: str | None = None) -> dict[str, Any]:
    files = {"uri": str(flights), "features": FEATURES} | ({"label": label} if label else {})
    return {
        "workload": workload,
        "data": {"files": files},
        "prepare": {"missing": "drop", "scale": "standard"},
        "output": {"uri": str(output)},
        "seed": 5,
    }


def one_sha(spec: dict[str, Any]) -> Any:
    """The model, after a check that any number of workers writes the same bytes."""
    found = {workers: model_sha(spec, workers) for workers in WORKERS}
    assert len(set(found.values())) == 1, found
    return scaletrain.load(spec["output"]["uri"])


def prepared(model: Pipeline, flights: Path, label: str) -> tuple[np.ndarray, np.ndarray]:
    """Complete rows after the model's own preparation, in float64, and a column."""
    rows = pq.read_table(flights).to_pandas().dropna()
    return model[:-1].transform(rows[FEATURES]).astype(np.float64), rows[label].to_numpy(np.float64)


def test_regression_of_the_delay(flights, tmp_path):
    """Coefficients are LinearRegression's to 1e-6."""
    model = one_sha(flights_job(flights, REGRESSION, tmp_path, "arr_delay"))
    X, y = prepared(model, flights, "arr_delay")
    peer = LinearRegression().fit(X, y)
    np.testing.assert_allclose(model[-1].coef_, peer.coef_, rtol=1e-6)
    np.testing.assert_allclose(model[-1].intercept_, peer.intercept_, rtol=1e-6)


def test_logistic_regression_of_lateness(flights, tmp_path):
    """The objective is that of a tight LogisticRegression to 1e-6."""
    model = one_sha(flights_job(flights, LOGISTIC, tmp_path, "late"))
    X, y = prepared(model, flights, "late")
    peer = LogisticRegression(tol=1e-10, solver="newton-cholesky").fit(X, y)

    def objective(fitted: Any) -> float:
        margin = (2 * y - 1) * (X @ fitted.coef_[0] + fitted.intercept_[0])
        return float(np.logaddexp(0, -margin).sum() + (fitted.coef_**2).sum() / 2)

    assert objective(model[-1]) == pytest.approx(objective(peer), rel=1e-6)


def test_svm_of_lateness(flights, tmp_path):
    """The objective is that of a tight LinearSVC to 1e-6."""
    model = one_sha(flights_job(flights, SVM, tmp_path, "late"))
    X, y = prepared(model, flights, "late")
    peer = LinearSVC(tol=1e-8, dual=False, max_iter=10_000).fit(X, y)

    def objective(fitted: Any) -> float:
        w, b = fitted.coef_[0], fitted.intercept_[0]
        loss = np.maximum(0, 1 - (2 * y - 1) * (X @ w + b)) ** 2
        return float((w @ w + b * b) / 2 + loss.sum())

    assert objective(model[-1]) == pytest.approx(objective(peer), rel=1e-6)


def test_kmeans_of_the_flights(flights, tmp_path):
    """From the same first centres: KMeans' labels, and its inertia to 1e-6."""
    first = np.random.default_rng(0).standard_normal((6, len(FEATURES)))
    np.save(tmp_path / "first.npy", first)
    given = {"clusters": 6, "init": "centers", "centersUri": str(tmp_path / "first.npy"), "tolerance": 0}
    model = one_sha(flights_job(flights, {"kmeans": given}, tmp_path / "model"))
    rows = pq.read_table(flights, columns=FEATURES).to_pandas().dropna()
    X = model[:-1].transform(rows).astype(np.float64)
    peer = KMeans(6, init=first, n_init=1, tol=0, algorithm="lloyd").fit(X)
    assert model[-1].inertia_ == pytest.approx(peer.inertia_, rel=1e-6)
    np.testing.assert_array_equal(model.predict(rows), peer.labels_)


@pytest.mark.parametrize(
    ("workload", "synthetic"),
    [
        (REGRESSION, {"regression": {"rows": 70_000, "features": 8}}),
        (LOGISTIC, {"classification": {"rows": 70_000, "features": 8}}),
        (SVM, {"classification": {"rows": 70_000, "features": 8}}),
        (KMEANS, {"blobs": {"rows": 70_000, "features": 8, "centers": 5}}),
    ],
    ids=["regression", "logistic", "svm", "kmeans"],
)
def test_synthetic_data_give_the_same_bytes(workload, synthetic, tmp_path):
    """70,000 rows in five blocks: four workers get unequal shares."""
    one_sha({"workload": workload, "data": {"synthetic": synthetic}, "output": {"uri": str(tmp_path)}, "seed": 5})
