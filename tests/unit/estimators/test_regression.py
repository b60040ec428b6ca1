"""Least squares against scikit-learn."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LinearRegression, Ridge

from scalejob.api.v1alpha1 import Linear
from scaletrain.errors import InvalidData, InvalidSpec
from scaletrain.estimators.linear import linear
from tests.unit.estimators.builders import fit, make_blocks


def params(**fields: object) -> Linear:
    return Linear(task="regression", **fields)


def problem(rng: np.random.Generator, n: int = 400, d: int = 6) -> tuple[np.ndarray, np.ndarray]:
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-2, 3, d) + rng.standard_normal(d) * 5
    return X, X @ rng.standard_normal(d) + 3 + rng.standard_normal(n)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("l2", [None, 0.5])
@pytest.mark.parametrize("weighted", [True, False])
def test_equals_scikit_learn(rng, fit_intercept, l2, weighted):
    """Coefficients agree to 1e-9, with and without weights, penalty and intercept."""
    X, y = problem(rng)
    weight = rng.integers(0, 4, len(X)) * 0.7 if weighted else None
    peer = Ridge(l2, fit_intercept=fit_intercept) if l2 else LinearRegression(fit_intercept=fit_intercept, tol=1e-12)
    peer.fit(X, y, sample_weight=weight)
    found = fit(linear, params(l2=l2, fit_intercept=fit_intercept), make_blocks(X, y, weight))
    np.testing.assert_allclose(found.coef_D, peer.coef_, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(found.intercept, peer.intercept_, rtol=1e-9, atol=1e-9)


def test_float32_features_are_summed_in_float64(rng):
    """float32 features give the coefficients of a fit in float64."""
    X, y = problem(rng)
    X = X.astype(np.float32)
    peer = LinearRegression(tol=1e-12).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(fit(linear, params(), make_blocks(X, y)).coef_D, peer.coef_, rtol=1e-9)


def test_a_mean_between_two_neighbouring_floats_can_be_summed_about(rng):
    """Far from 0, the float next to the mean is as far from it as the rows are, which the bounds of the sums allow for."""
    X = rng.standard_normal((2000, 3)).astype(np.float32)
    X[:, 1] = np.where(rng.random(2000) < 0.45, 2**24 + 2, 2**24)
    X[:, 2] = X[:, 0] * np.float32(1 + 1e-5) + np.float32(1e-5) * X[:, 2]  # so that float32 does not do
    y = X[:, 0] + X[:, 1] - 2.0**24 + 0.1 * rng.standard_normal(2000)
    peer = LinearRegression(tol=1e-14).fit(X.astype(np.float64) - [0, 2**24, 0], y)
    np.testing.assert_allclose(fit(linear, params(), make_blocks(X, y, rows=2000)).coef_D, peer.coef_, rtol=1e-5)


def test_refinement_gives_back_the_squared_condition(rng):
    """Columns that agree in five digits still have coefficients to 1e-6."""
    X = rng.standard_normal((2000, 5))
    X[:, 1] = X[:, 0] + 1e-5 * X[:, 1]
    y = X @ [1.0, -2.0, 3.0, 0.5, 0.0] + 0.1 * rng.standard_normal(2000)
    peer = LinearRegression(tol=1e-14).fit(X, y)
    np.testing.assert_allclose(fit(linear, params(), make_blocks(X, y)).coef_D, peer.coef_, rtol=1e-6)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_dependent_columns_get_the_smallest_norm(rng, fit_intercept):
    """Duplicates, a sum and a constant: scikit-learn's coefficients, and a warning that says the rank."""
    X = rng.standard_normal((300, 6))
    X[:, 3], X[:, 4], X[:, 5] = X[:, 0], X[:, 1] + X[:, 2], 2.5
    y = X @ rng.standard_normal(6) + rng.standard_normal(300)
    peer = LinearRegression(fit_intercept=fit_intercept).fit(X, y)
    found = fit(linear, params(fit_intercept=fit_intercept), make_blocks(X, y))
    np.testing.assert_allclose(found.coef_D, peer.coef_, atol=1e-8)
    assert found.rank == peer.rank_
    assert f"only {peer.rank_} of 6 columns" in found.facts()["warning"]


def test_more_columns_than_rows(rng):
    """The solution of the smallest norm fits the rows exactly."""
    X, y = rng.standard_normal((10, 30)), rng.standard_normal(10)
    found = fit(linear, params(), make_blocks(X, y, rows=4))
    np.testing.assert_allclose(found.coef_D, LinearRegression().fit(X, y).coef_, atol=1e-8)


def test_one_row():
    """One row is learned by the intercept."""
    found = fit(linear, params(), make_blocks(np.array([[1.0, 2.0]]), np.array([3.0])))
    np.testing.assert_array_equal(found.coef_D, [0, 0])
    assert found.intercept == 3.0


def test_the_scikit_learn_model_predicts_the_same(rng):
    """The fitted LinearRegression has the attributes, and predicts what the result says."""
    X, y = problem(rng)
    found = fit(linear, params(), make_blocks(X, y))
    model = found.to_sklearn(params())
    np.testing.assert_allclose(model.predict(X), found.decision(torch.from_numpy(X)).numpy(), rtol=1e-12)
    assert model.coef_.shape == (6,)
    assert linear.restore(params(), found.arrays(), found.facts()).intercept == found.intercept


@pytest.mark.parametrize(("value", "message"), [(np.nan, "features number 1"), (np.inf, "features number 1")])
def test_values_that_are_not_finite_are_refused(rng, value, message):
    """The error names the column."""
    X, y = problem(rng)
    X[7, 1] = value
    with pytest.raises(InvalidData, match=message):
        fit(linear, params(), make_blocks(X, y))


def test_labels_that_are_not_finite_are_refused(rng):
    X, y = problem(rng)
    y[3] = np.nan
    with pytest.raises(InvalidData, match="label"):
        fit(linear, params(), make_blocks(X, y))


def test_without_rows_there_is_nothing_to_learn():
    with pytest.raises(InvalidData, match="nothing to learn"):
        fit(linear, params(), make_blocks(np.empty((0, 3)), np.empty(0)))


def test_too_many_features_are_refused():
    """The message says the limit and what came."""
    with pytest.raises(InvalidSpec, match=r"at most 20,000 features.*the data have 20,001"):
        fit(linear, params(), make_blocks(np.zeros((1, 20_001)), np.zeros(1)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(12, 60), rows=st.integers(1, 20))
def test_residuals_are_orthogonal_to_the_columns(seed, n, rows):
    """The normal equations hold for any data and any size of blocks."""
    random = np.random.default_rng(seed)
    X, y = problem(random, n=n, d=4)
    found = fit(linear, params(), make_blocks(X, y, rows=rows))
    residual = y - X @ found.coef_D - found.intercept
    centred = X - X.mean(0)
    assert np.abs(centred.T @ residual).max() <= 1e-8 * np.linalg.norm(centred) * np.linalg.norm(y)


def test_the_rounding_of_a_huge_constant_is_not_learned_from(rng):
    """Its deviations, though no more than rounding, are larger than all that the other columns are."""
    X, y = rng.standard_normal((200, 3)), rng.standard_normal(200)
    X[:, 1] = 1e40 * (1 + np.finfo(float).eps * rng.integers(0, 2, 200))
    found = fit(linear, Linear(task="regression"), make_blocks(X, y))
    want = LinearRegression().fit(X[:, [0, 2]], y)
    assert found.coef_D[1] == 0
    np.testing.assert_allclose(found.coef_D[[0, 2]], want.coef_, rtol=1e-9)
