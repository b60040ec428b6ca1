"""Logistic regression and support vector machines against scikit-learn's objectives."""

import numpy as np
import pytest
import torch
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC, LinearSVC
from sklearn.utils.class_weight import compute_class_weight

from scalejob.api.v1alpha1 import Linear, Svm
from scaletrain.errors import InvalidData
from scaletrain.estimators.linear import linear
from scaletrain.estimators.svm import svm
from tests.unit.estimators.builders import fit, make_blocks, on_ranks


def logistic(**fields: object) -> Linear:
    return Linear(task="classification", **fields)


def problem(rng: np.random.Generator, classes: int = 2, n: int = 500, d: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes of unequal size, with features of different units, not centred."""
    X = rng.standard_normal((n, d)) * 10.0 ** rng.integers(-1, 2, d)
    logits = X / X.std(0) @ rng.standard_normal((d, classes)) + rng.gumbel(size=(n, classes)) - np.arange(classes) / 2
    return X + X.std(0) * 3, logits.argmax(1)


def row_costs(y: np.ndarray, weight: np.ndarray | None, balanced: bool) -> np.ndarray:
    cost = np.ones(len(y)) if weight is None else weight
    if balanced:
        cost = cost * compute_class_weight("balanced", classes=np.unique(y), y=y, sample_weight=weight)[y]
    return cost


def logistic_objective(model, X, y, cost, l2):
    Z = X @ model.coef_.T + model.intercept_
    Z = np.column_stack([np.zeros(len(X)), Z]) if Z.shape[1] == 1 else Z
    return cost @ (logsumexp(Z, axis=1) - Z[np.arange(len(y)), y]) + l2 / 2 * (model.coef_**2).sum()


def squared_hinge_objective(model, X, is_positive, cost, C):
    w, b = model.coef_[0], model.intercept_[0]
    margin = np.where(is_positive, 1, -1) * (X @ w + b)
    return (w @ w + b * b) / 2 + C * cost @ np.maximum(0, 1 - margin) ** 2


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_logistic_objective_is_scikit_learns(rng, classes, weighted, class_weight):
    """The objective is that of a tight LogisticRegression, to 1e-9; coefficients agree to 1e-4."""
    X, y = problem(rng, classes)
    weight = rng.integers(0, 3, len(X)).astype(float) if weighted else None
    params = logistic(l2=0.3, class_weight=class_weight, tolerance=1e-8)
    peer = LogisticRegression(
        C=1 / 0.3,
        tol=1e-10,
        max_iter=1000,
        solver="newton-cholesky",
        class_weight=None if class_weight == "none" else class_weight,
    ).fit(X, y, sample_weight=weight)
    model = fit(linear, params, make_blocks(X, y, weight)).to_sklearn(params, None)
    cost = row_costs(y, weight, class_weight == "balanced")
    want = logistic_objective(peer, X, y, cost, 0.3)
    assert logistic_objective(model, X, y, cost, 0.3) == pytest.approx(want, rel=1e-9)
    np.testing.assert_allclose(model.coef_, peer.coef_, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("classes", [2, 3])
def test_float32_and_default_tolerance_reach_1e_6(rng, classes):
    """float32 features, their offsets included, do not cost the objective its sixth digit."""
    X, y = problem(rng, classes)
    X = X.astype(np.float32)
    peer = LogisticRegression(tol=1e-10, max_iter=1000, solver="newton-cholesky").fit(X.astype(float), y)
    found = fit(linear, logistic(), make_blocks(X, y))
    want = logistic_objective(peer, X.astype(float), y, np.ones(len(y)), 1.0)
    assert found.objective == pytest.approx(want, rel=1e-6)
    assert found.converged


def test_logistic_without_intercept(rng):
    X, y = problem(rng)
    peer = LogisticRegression(fit_intercept=False, tol=1e-10, solver="newton-cholesky").fit(X, y)
    found = fit(linear, logistic(fit_intercept=False), make_blocks(X, y))
    np.testing.assert_allclose(found.coef_KD, peer.coef_, rtol=1e-5, atol=1e-6)
    assert found.intercept_K[0] == 0


@pytest.mark.parametrize("classes", [2, 3])
def test_separable_classes_without_penalty_end_with_a_warning(rng, classes):
    """There is no finite optimum: the fit ends, says so, and separates the rows."""
    y = np.arange(60) % classes
    X = np.eye(classes)[y] * 4 + 0.1 * rng.standard_normal((60, classes))
    params = logistic(l2=0)
    found = fit(linear, params, make_blocks(X, y))
    assert not found.converged
    assert "separated" in found.facts()["warning"]
    assert (found.to_sklearn(params, None).predict(X) == y).all()


def test_too_few_iterations_end_with_a_warning(rng):
    X, y = problem(rng)
    found = fit(linear, logistic(max_iterations=1, tolerance=1e-9), make_blocks(X, y))
    assert "maxIterations" in found.facts()["warning"]
    assert found.n_iter == 1


def test_dependent_columns_do_not_stop_newton(rng):
    """Duplicates and constants without penalty: the objective of the independent columns."""
    X, y = problem(rng, d=3)
    more = np.column_stack([X, X[:, 0], np.full(len(X), 7.0)]).astype(np.float32)
    want = fit(linear, logistic(l2=0), make_blocks(X.astype(np.float32), y)).objective
    assert fit(linear, logistic(l2=0), make_blocks(more, y)).objective == pytest.approx(want, rel=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_squared_hinge_objective_is_that_of_linear_svc(rng, dtype, weighted, class_weight):
    """Two classes: the objective, regularised intercept included, to 1e-8 of a tight LinearSVC."""
    X, y = problem(rng)
    X = X.astype(dtype)
    weight = rng.integers(0, 3, len(X)).astype(float) if weighted else None
    params = Svm(C=0.5, class_weight=class_weight, tolerance=1e-9)
    peer = LinearSVC(
        C=0.5, dual=False, tol=1e-10, max_iter=10_000, class_weight=None if class_weight == "none" else class_weight
    ).fit(X, y, sample_weight=weight)
    found = fit(svm, params, make_blocks(X, y, weight))
    cost = row_costs(y, weight, class_weight == "balanced")
    want = squared_hinge_objective(peer, X.astype(float), y == 1, cost, 0.5)
    got = squared_hinge_objective(found.to_sklearn(params, None), X.astype(float), y == 1, cost, 0.5)
    assert got == pytest.approx(want, rel=1e-8)
    assert found.objective[0] == pytest.approx(want, rel=1e-8)
    assert found.converged


@pytest.mark.parametrize("seed", range(5))
def test_squared_hinge_of_separable_classes_ends_at_the_minimum(seed):
    """With a large C nearly all of the first value is gone there. No f whose curvature is 1 at least has more than |gradient|^2 / 2
    to fall."""
    rng = np.random.default_rng(seed)
    X, sign = (rng.standard_normal((20, 25)) * 10.0 ** rng.integers(-2, 3, 25)).astype(np.float32), np.tile([-1, 1], 10)
    found = fit(svm, Svm(C=1e4), make_blocks(X, (sign > 0).astype(np.int64)))
    X_NP, point_P = np.column_stack([X, np.ones(20)]).astype(float), np.append(found.coef_KD, found.intercept_K)
    slope_P = point_P - 2e4 * (sign * np.maximum(0, 1 - sign * (X_NP @ point_P))) @ X_NP
    assert found.converged
    assert slope_P @ slope_P / 2 <= 1e-5 * found.objective[0]


@pytest.mark.parametrize("class_weight", ["balanced", "none"])
def test_one_against_the_rest_as_linear_svc(rng, class_weight):
    """Above two classes each row of coefficients is LinearSVC's, class weights included."""
    X, y = problem(rng, classes=3)
    X /= X.std(0)
    peer = LinearSVC(
        dual=False, tol=1e-10, max_iter=10_000, class_weight=None if class_weight == "none" else class_weight
    ).fit(X, y)
    found = fit(svm, Svm(class_weight=class_weight), make_blocks(X, y))
    np.testing.assert_allclose(found.coef_KD, peer.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.intercept_K, peer.intercept_, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("C", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("weighted", [True, False])
def test_hinge_objective_is_that_of_svc(rng, C, weighted):
    """The objective of SVC(kernel="linear") to 1e-5, with a duality gap within the tolerance."""
    X, y = problem(rng, n=300)
    X /= X.std(0)
    weight = rng.integers(0, 3, len(X)).astype(float) if weighted else np.ones(len(X))
    params = Svm(loss="hinge", C=C, tolerance=1e-6)
    peer = SVC(kernel="linear", C=C, tol=1e-8).fit(X, y, sample_weight=weight)
    found = fit(svm, params, make_blocks(X, y, weight))

    def objective(w, b):
        return w @ w / 2 + C * weight @ np.maximum(0, 1 - np.where(y == 1, 1, -1) * (X @ w + b))

    want = objective(peer.coef_[0], peer.intercept_[0])
    assert objective(found.coef_KD[0], found.intercept_K[0]) == pytest.approx(want, rel=1e-5)
    assert found.certificate[0] <= 1e-6
    assert found.converged


@pytest.mark.parametrize(
    ("spread", "offset", "share", "weights", "C"),
    [
        (1e-3, 0.0, 0.5, (1, 1), 0.1),  # all rows lie inside of the margin
        (1e-3, 0.0, 0.2, (1, 1), 1.0),  # and the offset alone decides
        (30.0, 5.0, 0.9, (1, 1), 0.01),
        (1.0, 5.0, 0.5, (1, 50), 1.0),
        (1.0, 0.0, 0.5, (1000, 1e-4), 1.0),
        (1.0, 0.0, 0.2, (1, 1), 1e3),
    ],
)
def test_hinge_objective_is_that_of_svc_where_steps_go_astray(rng, spread, offset, share, weights, C):
    """Few rows near the corner, one side far heavier, rows far from it: Newton's steps are too long, or there are none."""
    for n, d in ((12, 2), (40, 20), (100, 5), (300, 1)):
        X = rng.standard_normal((n, d)) * spread + offset
        score = (X - offset) @ rng.standard_normal(d) / spread + 0.5 * rng.standard_normal(n)
        y = (score > np.quantile(score, 1 - share)).astype(int)
        weight = np.array(weights, dtype=float)[y]
        found = fit(svm, Svm(loss="hinge", C=C, tolerance=1e-4), make_blocks(X, y, weight))
        peer = SVC(kernel="linear", C=C, tol=1e-6).fit(X, y, weight)
        objectives = [
            w @ w / 2 + C * weight @ np.maximum(0, 1 - np.where(y > 0, 1, -1) * (X @ w + b))
            for w, b in ((found.coef_KD[0], found.intercept_K[0]), (peer.coef_[0], peer.intercept_[0]))
        ]
        assert objectives[0] <= objectives[1] * (1 + 2e-4)


@pytest.mark.parametrize("most", [0, 10_000])
def test_hinge_is_the_same_for_any_number_of_ranks_where_rows_near_the_corner_are_many_or_few(rng, most, monkeypatch):
    """Few are brought to rank 0, many stay where they are: equal bytes on any ranks, and one minimum."""
    monkeypatch.setattr("scaletrain.estimators.svm.gathered.rows_per_block", lambda _: most)
    X, y = problem(rng, n=2_000)
    weight, params = rng.integers(1, 4, len(X)).astype(float), Svm(loss="hinge", tolerance=1e-6)
    blocks, order = make_blocks(X / X.std(0), y, weight, rows=256), [2, 0, 1, 1, 0, 2, 0, 1]
    alone = fit(svm, params, blocks)
    found = on_ranks(3, blocks, lambda comm, own: fit(svm, params, own, comm=comm), order=order)
    assert {one.coef_KD.tobytes() for one in found} == {alone.coef_KD.tobytes()}
    peer = SVC(kernel="linear", tol=1e-8).fit(X / X.std(0), y, weight)
    np.testing.assert_allclose(alone.coef_KD, peer.coef_, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("seed", [4, 5])
def test_hinge_reaches_its_tolerance_with_a_far_row(seed):
    """A row a million times farther than others: after a step no row is in its parabola, and no Hessian says how far to go."""
    X = np.random.default_rng(seed).standard_normal((40, 2))
    y = (X.sum(1) > 0).astype(np.int64)
    X[7, 0] *= 1e6
    assert fit(svm, Svm(loss="hinge", C=10, tolerance=1e-4), make_blocks(X, y)).converged


def test_hinge_of_separable_classes_finds_the_widest_margin():
    """Two points: the plane half way between them."""
    X, y = np.array([[0.0, 0.0], [2.0, 0.0]]), np.array([0, 1])
    found = fit(svm, Svm(loss="hinge", C=10.0), make_blocks(X, y))
    np.testing.assert_allclose(found.coef_KD, [[1.0, 0.0]], atol=1e-4)
    np.testing.assert_allclose(found.intercept_K, [-1.0], atol=1e-4)


@pytest.mark.parametrize(("module", "params"), [(linear, Linear(task="classification")), (svm, Svm())])
def test_a_sample_without_weights_says_nothing(rng, module, params):
    """Each 8th row, which is what is sampled, counts nothing: the same model as without those rows."""
    X = rng.standard_normal((6000, 2))
    y, counts = (X[:, 0] + rng.standard_normal(6000) > 0).astype(np.int64), np.arange(6000) % 8 > 0
    found = fit(module, params, make_blocks(X, y, counts.astype(float), rows=4096))
    want = fit(module, params, make_blocks(X[counts], y[counts], rows=4096))
    assert found.coef_KD == pytest.approx(want.coef_KD, abs=1e-5)


@pytest.mark.parametrize("loss", ["hinge", "squaredHinge"])
def test_without_intercept_it_is_zero(rng, loss):
    X, y = problem(rng)
    found = fit(svm, Svm(loss=loss, fit_intercept=False), make_blocks(X / X.std(0), y))
    assert found.intercept_K[0] == 0
    assert found.converged


@pytest.mark.parametrize(("module", "params"), [(linear, logistic()), (svm, Svm()), (svm, Svm(loss="hinge"))])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_scikit_learn_model_predicts_the_same(rng, module, params, classes):
    """Shapes and classes are scikit-learn's; decisions agree; what was saved gives the same result."""
    X, y = problem(rng, classes)
    X /= X.std(0)
    found = fit(module, params, make_blocks(X, y))
    model = found.to_sklearn(params, np.array(["a", "b", "c"][:classes]))
    decision = found.decision(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(model.decision_function(X), decision, rtol=1e-9, atol=1e-12)
    assert set(model.predict(X)) == set("abc"[:classes])
    assert model.coef_.shape == (1 if classes == 2 else classes, X.shape[1])
    again = module.restore(params, found.arrays(), found.facts())
    assert again.facts() == found.facts()


@pytest.mark.parametrize(("module", "params"), [(linear, logistic()), (svm, Svm())])
def test_one_class_is_refused(rng, module, params):
    X, y = problem(rng)
    with pytest.raises(InvalidData, match="one class only"):
        fit(module, params, make_blocks(X, np.zeros_like(y)))


@pytest.mark.parametrize(("module", "params"), [(linear, logistic()), (svm, Svm())])
def test_a_class_without_rows_is_refused(rng, module, params):
    """The message names the class."""
    X, y = problem(rng, classes=3)
    weight = (y != 1).astype(float)
    with pytest.raises(InvalidData, match=r"classes without a row.*: 1$"):
        fit(module, params, make_blocks(X, y, weight))


def test_extreme_margins_stay_finite():
    """Rows far away from the plane neither overflow nor lose the loss."""
    X = np.array([[1e6], [-1e6], [1e6], [-1e6]])
    found = fit(linear, logistic(l2=1e-6), make_blocks(X, np.array([1, 0, 0, 1])))
    assert found.objective == pytest.approx(4 * np.log(2))


@pytest.mark.parametrize(
    ("module", "params", "classes"),
    [
        (linear, logistic(), 2),
        (linear, logistic(), 3),
        (svm, Svm(), 2),
        (svm, Svm(loss="hinge"), 2),
    ],
)
@pytest.mark.parametrize("value", [0.3, 1e8, 1e30])
def test_a_column_that_is_constant_but_for_rounding_changes_nothing(rng, module, params, classes, value):
    """Sums over a column far from 0 with almost no spread round beyond that spread: they neither fail nor teach anything."""
    X, y = problem(rng, classes, n=3000)
    X -= X.mean(0)
    X[:, 1] = value
    X[7, 1] = np.nextafter(value, np.inf)
    found, without = (fit(module, params, make_blocks(part, y, rows=3000)) for part in (X, np.delete(X, 1, axis=1)))
    expected = without.decision(torch.from_numpy(np.delete(X, 1, axis=1)))
    np.testing.assert_allclose(found.decision(torch.from_numpy(X)), expected, atol=1e-3)


@pytest.mark.parametrize(("module", "params"), [(linear, logistic()), (svm, Svm())])
@pytest.mark.parametrize("value", [1e-25, 1e25])
def test_squares_that_float32_cannot_hold_are_summed_in_float64(rng, module, params, value):
    """A fit of float32 features is that of the same ones in float64."""
    X, y = problem(rng)
    X[:, 1] *= value
    single = X.astype(np.float32)
    found, expected = (fit(module, params, make_blocks(part, y)) for part in (single, single.astype(np.float64)))
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-6)


@pytest.mark.parametrize(("module", "params"), [(linear, logistic()), (svm, Svm())])
def test_values_that_cannot_be_squared_are_refused(rng, module, params):
    """The message names the column."""
    X, y = problem(rng)
    X[3, 2] = 1e200
    with pytest.raises(InvalidData, match="too large to be squared in features number 2"):
        fit(module, params, make_blocks(X, y))


def test_logistic_with_fewer_rows_than_features(rng):
    """There is no matrix of the features; the minimum is that of scikit-learn, and the bytes are equal on 1 and 3 ranks."""
    X = rng.standard_normal((60, 300)) * 10.0 ** rng.integers(-1, 2, 300) + 3
    y = (X[:, 0] - 3 + rng.standard_normal(60) > 0).astype(int)
    params, blocks = Linear(task="classification", l2=2.0), make_blocks(X, y, rows=7)
    peer = LogisticRegression(C=0.5, tol=1e-10, max_iter=10_000, solver="newton-cholesky").fit(X, y)
    found = fit(linear, params, blocks)
    assert found.converged
    weight = np.ones(len(X))
    best = logistic_objective(peer, X, y, weight, 2.0)
    assert found.objective <= best * (1 + 1e-6)
    for other in on_ranks(3, blocks, lambda comm, mine: fit(linear, params, mine, comm=comm)):
        assert other.coef_KD.tobytes() == found.coef_KD.tobytes()
