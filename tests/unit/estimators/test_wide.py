"""Fits with too many features for a Gram matrix, forced on few: the objectives of scikit-learn, and equal bytes on any number of ranks."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.svm import LinearSVC

from scalejob.api.v1alpha1 import Linear, Svm
from scaletrain.data.blocks import Blocks
from scaletrain.data.sparse import SparseRows
from scaletrain.errors import InvalidSpec
from scaletrain.estimators import limits
from scaletrain.estimators.linear import linear
from scaletrain.estimators.svm import svm
from tests.unit.estimators.builders import fit, make_blocks
from tests.unit.estimators.test_classifiers import logistic_objective, squared_hinge_objective
from tests.unit.estimators.test_ranks import WORKLOADS
from tests.unit.estimators.test_resume import fit_on

FITS = ["regression", "logistic", "multinomial", "svm", "svm of three classes"]


@pytest.fixture(autouse=True)
def _without_gram_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "GRAM_FEATURES", 0)


def problem(rng: np.random.Generator, classes: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """800 rows of 300 features of different units, off their means; classes that overlap, and a number to learn."""
    X = (rng.standard_normal((800, 300)) + 2) * 10.0 ** rng.integers(-1, 2, 300)
    score = (X / X.std(0)) @ rng.standard_normal((300, classes)) / 17
    return X, (score + rng.gumbel(size=score.shape)).argmax(1), score[:, 0] + rng.standard_normal(800)


def within(value: float, best: float) -> None:
    """At most one millionth above the objective of a tight fit."""
    assert value <= best * (1 + 1e-6)


def test_squared_hinge(rng):
    X, y, _ = problem(rng)
    peer = LinearSVC(C=0.01, dual=False, tol=1e-6, max_iter=10_000).fit(X, y)
    found = fit(svm, Svm(C=0.01), make_blocks(X, y, rows=300))
    assert found.converged
    within(found.objective[0], squared_hinge_objective(peer, X, y == 1, np.ones(len(X)), 0.01))


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic(rng, classes):
    X, y, _ = problem(rng, classes)
    peer = LogisticRegression(C=0.1, tol=1e-9, max_iter=10_000, solver="newton-cholesky").fit(X, y)
    found = fit(linear, Linear(task="classification", l2=10.0, max_iterations=1000), make_blocks(X, y, rows=300))
    assert found.converged
    within(found.objective, logistic_objective(peer, X, y, np.ones(len(X)), 10.0))


def test_hinge_is_refused(rng):
    """The message says the limit, and which loss has a higher one."""
    X, y, _ = problem(rng)
    with pytest.raises(InvalidSpec, match=r"workload\.svm\.loss: hinge takes at most 0 features.*300; squaredHinge"):
        fit(svm, Svm(loss="hinge"), make_blocks(X, y))


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("l2", [None, 3.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_least_squares(rng, weighted, l2, fit_intercept):
    """The coefficients of LinearRegression or Ridge, to a millionth of the largest, and a residual that says so."""
    X, _, y = problem(rng)
    weight = rng.integers(0, 4, len(X)) * 0.7 if weighted else None
    peer = Ridge(l2, fit_intercept=fit_intercept) if l2 else LinearRegression(fit_intercept=fit_intercept)
    peer.fit(X, y, sample_weight=weight)
    found = fit(linear, Linear(task="regression", l2=l2, fit_intercept=fit_intercept), make_blocks(X, y, weight))
    assert found.converged
    assert found.facts()["residual"] <= 1e-8
    np.testing.assert_allclose(found.coef_D, peer.coef_, atol=1e-6 * np.abs(peer.coef_).max())


def test_dependent_columns_and_constants(rng):
    """A duplicate and a constant column do no harm: predictions are those of LinearRegression."""
    X, _, y = problem(rng)
    X[:, 1], X[:, 2] = X[:, 0], 2.5
    found = fit(linear, Linear(task="regression"), make_blocks(X, y))
    assert found.converged
    np.testing.assert_allclose(
        X @ found.coef_D + found.intercept, LinearRegression().fit(X, y).predict(X), atol=1e-6 * y.std()
    )


def sparse(blocks: Blocks) -> Blocks:
    """The same blocks without their zeros."""
    kept = [SparseRows(csr_array(block.X_ND.numpy())) for block in blocks.blocks]
    return replace(blocks, blocks=[replace(b, X_ND=X) for b, X in zip(blocks.blocks, kept, strict=True)])


@pytest.mark.parametrize("reach", [0.0, 1e-13, 1e-9], ids=["constant", "hardly above rounding", "far off"])
@pytest.mark.parametrize("workload", ["least squares", "squared hinge"])
def test_sparse_columns_far_from_0(rng, reach, workload):
    """Sums over a block are taken about 0 and then moved, which leaves rounding errors beyond what the columns reach."""
    X, label, y = problem(rng)
    X[:, 7] = 1e9 / 3 * (1 + reach * rng.standard_normal(len(X)))
    blocks = sparse(make_blocks(X, y if workload == "least squares" else label, rows=300))
    without = np.delete(X, 7, axis=1)
    if workload == "least squares":
        found = fit(linear, Linear(task="regression"), blocks)
        peer = LinearRegression().fit(without, y)
        left = y - without @ np.delete(found.coef_D, 7) - found.coef_D[7] * (X[:, 7] - X[:, 7].mean())
        assert left.var() <= (y - peer.predict(without)).var() * (1 + 1e-6)
    else:
        found = fit(svm, Svm(C=0.01), blocks)
        peer = LinearSVC(C=0.01, dual=False, tol=1e-6, max_iter=10_000).fit(without, label)
        within(found.objective[0], squared_hinge_objective(peer, without, label == 1, np.ones(len(X)), 0.01))


def test_what_has_not_converged_says_so(rng, monkeypatch):
    monkeypatch.setattr("scaletrain.estimators.linear.wide.MAX_STEPS", 3)
    X, _, y = problem(rng)
    facts = fit(linear, Linear(task="regression"), make_blocks(X, y)).facts()
    assert not facts["converged"]
    assert "normal equations are solved to" in facts["warning"]


@pytest.mark.parametrize("name", FITS)
def test_equal_bytes_for_any_number_of_ranks(name):
    """1, 2, 3 and 4 ranks, and 2 that go on from a state of an earlier attempt."""
    assert name in WORKLOADS
    digest, facts, shelf = fit_on(name, 1)
    assert all(fit_on(name, size)[:2] == (digest, facts) for size in (2, 3, 4))
    assert fit_on(name, 2, shelf.states[len(shelf.states) // 2])[:2] == (digest, facts)
