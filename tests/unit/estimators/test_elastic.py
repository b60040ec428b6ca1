"""Elastic net and lasso against scikit-learn's."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Lasso

from scalejob.api.v1alpha1 import Linear
from scaletrain.data.blocks import Blocks
from scaletrain.errors import InvalidSpec
from scaletrain.estimators.linear import linear
from scaletrain.estimators.linear.elastic import coordinate_descent
from tests.unit.estimators.builders import fit, make_blocks


def problem(rng: np.random.Generator, n: int = 300, d: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns with offsets, of which a third count."""
    X = rng.standard_normal((n, d)) @ (np.eye(d) + 0.3) + np.arange(d)
    return X, X[:, ::3] @ np.linspace(-3, 3, len(range(0, d, 3))) + rng.standard_normal(n) * 3 + 40


def net(alpha: float, ratio: float, weight: float, **fields) -> Linear:
    """In our terms."""
    return Linear(task="regression", l1=2 * weight * alpha * ratio, l2=weight * alpha * (1 - ratio), **fields)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.05])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [True, False])
def test_coefficients_are_scikit_learns(rng, ratio, dtype, weighted):
    """To 1e-6, for the lasso and for mixtures; the same ones are exactly 0."""
    X, y = problem(rng)
    X = X.astype(dtype)
    weight = rng.integers(0, 4, len(X)).astype(float) if weighted else None
    params = net(0.3, ratio, weight.sum() if weighted else len(X))
    found = fit(linear, params, make_blocks(X, y, weight))
    want = ElasticNet(alpha=0.3, l1_ratio=ratio, tol=1e-14, max_iter=100_000)
    want.fit(X.astype(np.float64), y, sample_weight=weight)
    assert found.converged
    assert found.coef_D == pytest.approx(want.coef_, rel=1e-6, abs=1e-6)
    assert found.intercept == pytest.approx(want.intercept_, rel=1e-6)
    assert ((found.coef_D == 0) == (want.coef_ == 0)).all()


def test_without_intercept(rng):
    """As scikit-learn's Lasso."""
    X, y = problem(rng)
    found = fit(linear, net(0.3, 1.0, len(X), fit_intercept=False), make_blocks(X, y))
    want = Lasso(alpha=0.3, fit_intercept=False, tol=1e-14, max_iter=100_000).fit(X, y)
    assert found.coef_D == pytest.approx(want.coef_, rel=1e-6, abs=1e-6)
    assert found.intercept == 0


def test_a_large_l1_leaves_the_mean(rng):
    """No coefficient is worth its price."""
    X, y = problem(rng)
    found = fit(linear, Linear(task="regression", l1=1e9), make_blocks(X, y))
    assert not found.coef_D.any()
    assert found.intercept == pytest.approx(y.mean())


def test_more_columns_than_rows_and_equal_columns(rng):
    """The objective is scikit-learn's, though many coefficients have it."""
    X, y = problem(rng, n=20, d=30)
    X[:, 1] = X[:, 0]
    params = net(0.1, 0.9, 20)
    found = fit(linear, params, make_blocks(X, y))
    want = ElasticNet(alpha=0.1, l1_ratio=0.9, tol=1e-12, max_iter=100_000).fit(X, y)
    residual = y - want.predict(X)
    best = residual @ residual + params.l2 * want.coef_ @ want.coef_ + params.l1 * np.abs(want.coef_).sum()
    assert found.converged
    assert found.objective == pytest.approx(best, rel=1e-8)


def test_columns_that_differ_by_rounding_only_do_not_go_on_for_ever():
    """A fit of rows of which one is far from the others: one coefficient takes from the other, sweep after sweep."""
    A_DD = np.array([[9.22386248e11, 9.48323561e15], [9.48323561e15, 9.74990227e19]])
    coef_D = coordinate_descent(A_DD, np.array([-5.30358069e12, -5.45271389e16]), 5000.0, np.zeros(2))
    assert coef_D @ [1, 9.48323561e15 / 9.22386248e11] == pytest.approx(-5.30358069e12 / 9.22386248e11, rel=1e-3)


def test_the_scikit_learn_model_has_the_same_parameters(rng):
    """An ElasticNet with alpha and l1_ratio, that predicts the same."""
    X, y = problem(rng)
    params = net(0.3, 0.25, len(X))
    fitted = fit(linear, params, make_blocks(X, y))
    result = linear.restore(params, fitted.arrays(), fitted.facts())
    model = result.to_sklearn(params)
    assert (model.alpha, model.l1_ratio) == (pytest.approx(0.3), pytest.approx(0.25))
    assert model.predict(X) == pytest.approx(X @ result.coef_D + result.intercept)


def test_too_many_features_for_a_gram_matrix_are_refused():
    """Before any pass over the rows."""
    wide = Blocks(blocks=[], num_rows=0, num_features=5001, num_blocks=0)
    with pytest.raises(InvalidSpec, match="l1: takes at most 5,000 features"):
        fit(linear, Linear(task="regression", l1=1.0), wide)
