"""The estimators beside scikit-learn's: equal objectives, predictions and attributes on its own data sets."""

import warnings
from functools import cache

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn import cluster, datasets, linear_model, svm
from sklearn.base import BaseEstimator
from sklearn.preprocessing import StandardScaler

import scaletrain

DATA = {"diabetes": datasets.load_diabetes, "cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}
WEIGHTS = {"balanced": "balanced", "some": {1: 3.0}, "none": None}
BALANCED = pytest.mark.parametrize("class_weight", WEIGHTS)


@cache
def rows(name: str, dtype: str = "float64") -> tuple[np.ndarray, np.ndarray]:
    """Standardised features, and targets; of the digits 0 to 2 only."""
    X, y = DATA[name](return_X_y=True)
    some = y < 3 if name == "digits" else slice(None)
    return StandardScaler().fit_transform(X[some]).astype(dtype), y[some]


def weights(y: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4, len(y)).astype(float)


def fitted(ours: BaseEstimator, theirs: BaseEstimator, X: np.ndarray, y: np.ndarray | None = None, **more: object):
    """Both, with scikit-learn's as far as it gets."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs.fit(X, y, **more)
    return ours.fit(X, y, **more), theirs


def assert_same_form(ours: BaseEstimator, theirs: BaseEstimator, *names: str) -> None:
    """Types, dtypes and shapes of attributes."""
    for name in (*names, "n_features_in_"):
        a, b = getattr(ours, name), getattr(theirs, name)
        assert (name, np.shape(a), np.asarray(a).dtype) == (name, np.shape(b), np.asarray(b).dtype)
        assert isinstance(a, type(b))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("alpha", [0.0, 2.0])
@pytest.mark.parametrize("intercept", [True, False])
def test_regression(dtype: str, alpha: float, intercept: bool) -> None:
    """LinearRegression, or Ridge with alpha, with weights."""
    X, y = rows("diabetes", dtype)
    peer = (
        linear_model.Ridge(alpha, fit_intercept=intercept)
        if alpha
        else linear_model.LinearRegression(fit_intercept=intercept)
    )
    ours = scaletrain.LinearRegression(alpha=alpha, fit_intercept=intercept)
    ours, theirs = fitted(ours, peer, X, y, sample_weight=weights(y))
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6 if dtype == "float64" else 2e-3)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), rtol=1e-6, atol=0 if dtype == "float64" else 5e-3)
    assert_same_form(ours, theirs, "coef_", "intercept_", *(() if alpha else ("rank_",)))


def test_regression_of_several_targets() -> None:
    """One row of coefficients for each, as in scikit-learn; also for a matrix of one column."""
    X, y = rows("diabetes")
    for Y in (np.column_stack([y, -y, y**2]), y[:, None]):
        ours, theirs = fitted(scaletrain.LinearRegression(), linear_model.LinearRegression(), X, Y)
        np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
        assert_same_form(ours, theirs, "coef_", "intercept_", "rank_")


def logistic_objective(model: BaseEstimator, X: np.ndarray, y: np.ndarray, cost: np.ndarray) -> float:
    Z = X @ model.coef_.T + model.intercept_
    Z = np.column_stack([np.zeros(len(Z)), Z]) if Z.shape[1] == 1 else Z
    return cost @ (logsumexp(Z, axis=1) - Z[np.arange(len(y)), y]) + (model.coef_**2).sum() / 2


@pytest.mark.parametrize("name", ["cancer", "digits"])
@BALANCED
def test_logistic_regression(name: str, class_weight: str) -> None:
    """The objective to 1e-6, probabilities to 1e-4, class weights and sample weights included."""
    X, y = rows(name)
    peer = linear_model.LogisticRegression(class_weight=WEIGHTS[class_weight], tol=1e-10, max_iter=5000)
    ours = scaletrain.LogisticRegression(class_weight=WEIGHTS[class_weight], max_iter=1000, tol=1e-9)
    ours, theirs = fitted(ours, peer, X, y, sample_weight=weights(y))
    cost = weights(y)
    if class_weight == "some":
        cost = cost * np.where(y == 1, 3.0, 1.0)
    if class_weight != "balanced":
        want = logistic_objective(theirs, X, y, cost)
        assert logistic_objective(ours, X, y, cost) == pytest.approx(want, rel=1e-6)
    np.testing.assert_allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=2e-4)
    np.testing.assert_allclose(np.exp(ours.predict_log_proba(X)), ours.predict_proba(X), atol=1e-12)
    assert_same_form(ours, theirs, "coef_", "intercept_", "classes_", "n_iter_")


@pytest.mark.parametrize("name", ["cancer", "digits"])
@BALANCED
def test_linear_svc(name: str, class_weight: str) -> None:
    """Coefficients to 1e-4 of a tight LinearSVC; above two classes a dict weighs the rows of the class itself only."""
    X, y = rows(name)
    peer = svm.LinearSVC(dual=False, class_weight=WEIGHTS[class_weight], tol=1e-9, max_iter=5000)
    ours = scaletrain.LinearSVC(class_weight=WEIGHTS[class_weight], tol=1e-10)
    ours, theirs = fitted(ours, peer, X, y, sample_weight=weights(y) + 1)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, atol=1e-4)
    np.testing.assert_allclose(ours.decision_function(X), theirs.decision_function(X), atol=1e-3)
    assert_same_form(ours, theirs, "coef_", "intercept_", "classes_", "n_iter_")


def test_hinge_is_that_of_svc() -> None:
    """The intercept is free, as in SVC(kernel='linear')."""
    X, y = rows("cancer")
    ours, theirs = fitted(scaletrain.LinearSVC(loss="hinge"), svm.SVC(kernel="linear", tol=1e-8), X, y)

    def objective(model: BaseEstimator) -> float:
        margin = np.where(y, 1, -1) * model.decision_function(X)
        return (model.coef_**2).sum() / 2 + np.maximum(0, 1 - margin).sum()

    assert objective(ours) == pytest.approx(objective(theirs), rel=1e-4)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_kmeans(dtype: str) -> None:
    """From the same centres to the same clusters; distances and scores are equal too."""
    X, y = rows("digits", dtype)
    ours, theirs = fitted(
        scaletrain.KMeans(10, init=X[:10]), cluster.KMeans(10, init=X[:10]), X, sample_weight=weights(y)
    )
    assert ours.labels_.tolist() == theirs.labels_.tolist() == ours.predict(X).tolist()
    assert ours.inertia_ == pytest.approx(theirs.inertia_, rel=1e-6)
    assert ours.score(X, sample_weight=weights(y)) == pytest.approx(theirs.score(X, sample_weight=weights(y)), rel=1e-5)
    np.testing.assert_allclose(ours.transform(X), theirs.transform(X), rtol=1e-3, atol=1e-5)
    assert ours.transform(X).dtype == X.dtype
    assert_same_form(ours, theirs, "cluster_centers_", "labels_", "inertia_", "n_iter_")
